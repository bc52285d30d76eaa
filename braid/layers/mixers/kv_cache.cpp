#include "braid/layers/mixers/kv_cache.h"

#include <utility>
#include <vector>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/ops/rows.h"

namespace braid {

std::unique_ptr<LayerState> make_kv(const Context& ctx, const KvShape& shape,
                                    const StateOptions& options) {
  if (shape.window > 0 || shape.chunk > 0) return std::make_unique<RingKv>(ctx, shape, options.kv);
  return std::make_unique<GrowingKv>(ctx, shape, options.kv);
}

size_t kv_bytes(const KvShape& shape, int64_t tokens, const StateOptions& options) {
  return shape.window > 0 || shape.chunk > 0 ? RingKv::bytes_at(shape, tokens, options.kv)
                                             : GrowingKv::bytes_at(shape, tokens, options.kv);
}

size_t kv_read_bytes(const KvShape& shape, int64_t tokens, const StateOptions& options) {
  return static_cast<size_t>(shape.seen(tokens).rows(tokens)) * shape.row_bytes(options.kv);
}

LinkShape kv_link(const KvShape& s) {
  return {"kv", {s.heads, s.head_dim, s.window, s.chunk, s.value_dim}};
}

KvShape kv_of_link(const LinkShape& link) {
  return {.heads = link.sizes[0],
          .head_dim = link.sizes[1],
          .window = link.sizes[2],
          .chunk = link.sizes[3],
          .value_dim = link.sizes[4]};
}

KvShape read_kv_link(std::string_view layer, LinkTable* links, const std::string& of,
                     const KvReader& reader) {
  const auto usage = [&](const std::string& message) {
    throw Error(ErrorKind::kUsage, format("{}: {}", layer, message));
  };
  const auto channels = [](int64_t key_dim, int64_t value_dim) {
    return key_dim == value_dim ? format("{}", key_dim) : format("{} and {}", key_dim, value_dim);
  };
  const KvShape kv = kv_of_link(find_link(links, layer, of, "kv"));
  const int64_t n = reader.together, heads = kv.heads * n, value_dim = kv.values();
  if (reader.kv_heads != 0 && reader.kv_heads != heads)
    usage(format("kv_heads={}, but {} has {}", reader.kv_heads, of, heads));
  if (reader.head_dim * n != kv.head_dim || reader.value_dim * n != value_dim) {
    usage(format("{}heads of {} channels, but those of {} have {}", n == 1 ? "" : "pairs of ",
                 channels(reader.head_dim, reader.value_dim), of,
                 channels(kv.head_dim, value_dim)));
  }
  if (reader.heads % heads != 0)
    usage(format("heads={} is not a multiple of the {} kv heads of {}", reader.heads, heads, of));
  if (reader.window > kv.window && kv.window > 0) {
    usage(format("window={} is wider than {}, the window of {}", reader.window, kv.window, of));
  }
  return kv;
}

LinkValue kept_kv(const Context& ctx, const Tensor& k, const Tensor& v, const Batch& batch,
                  States states, const Tensor& log_forget) {
  LinkValue kv;
  if (states.empty()) {
    kv.tensors = {k, v};
    if (log_forget.defined()) kv.tensors.push_back(log_forget);
    return kv;
  }
  const int64_t ld_k = rows_of(k).stride, ld_v = rows_of(v).stride;
  const int64_t ld_f = log_forget.defined() ? rows_of(log_forget).stride : 0;
  for (size_t s = 0; s < states.size(); ++s) {
    auto* state = dynamic_cast<KvState*>(states[s]);
    BRAID_CHECK(state != nullptr && state->length() == batch.offsets[s]);
    const int64_t begin = batch.seq_starts[s];
    state->append(ctx, k.data() + begin * ld_k, ld_k, v.data() + begin * ld_v, ld_v,
                  batch.length(static_cast<int64_t>(s)),
                  log_forget.defined() ? log_forget.data() + begin * ld_f : nullptr, ld_f);
  }
  kv.states.assign(states.begin(), states.end());
  return kv;
}

Tensor attend_kv(const Context& ctx, const AttentionConfig& config, const Tensor& q,
                 const Batch& batch, const LinkValue& kv, Parameter* sinks) {
  if (kv.states.empty()) {
    return attention(ctx, config, q, kv.tensors[0], kv.tensors[1], batch.seq_starts, sinks,
                     kv.tensors.size() > 2 ? kv.tensors[2] : Tensor());
  }
  std::vector<KvView> views;
  for (const LayerState* state : kv.states)
    views.push_back(static_cast<const KvState*>(state)->view());
  return attention_cached(ctx, config, q, batch.seq_starts, views, sinks);
}

void publish_kv(const Batch& batch, const std::string& as, LinkValue kv) {
  const auto forget = [kept = kv.states] {
    for (LayerState* state : kept) static_cast<KvState*>(state)->forget();
  };
  if (as.empty() || batch.links == nullptr) return forget();
  batch.links->put(as, std::move(kv));
  batch.links->at_end(forget);
}

}  // namespace braid
