#include "braid/layers/mixers/dsa/dsa_ref.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "braid/base/format.h"
#include "braid/layers/chooser.h"
#include "braid/layers/mixer.h"
#include "braid/layers/mixers/dsa/index_loss.h"
#include "braid/layers/mixers/latent_mixer.h"
#include "braid/ops/attention.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/indexer.h"
#include "braid/ops/layer_norm.h"
#include "braid/ops/linear.h"
#include "braid/ops/selected_attention.h"
#include "braid/ops/view.h"
#include "braid/state/group_state.h"

namespace braid {
namespace {

constexpr double kKeyNormEps = 1e-6;
constexpr int64_t kTogether = 32;  // queries over chosen latents at a time
constexpr int64_t kFewKeys = 20;   // of a narrowed layer

struct DsaConfig {
  LatentOptions latent;
  int64_t index_n_heads = 64;
  int64_t index_head_dim = 128;
  int64_t index_topk = 2048;
  bool index_interleaved = false;  // GLM-5's pairs
  std::string stage = "sparse";    // or warmup: attention over all keys
  double index_loss = 0;           // coefficient of the indexer's loss
  std::string as, of;              // publishes its choice; attends to that of another layer
  void visit(OptionVisitor& v) {
    latent.visit(v);
    v.field("index_n_heads", index_n_heads, int64_t{64});
    v.field("index_head_dim", index_head_dim, int64_t{128});
    v.field("index_topk", index_topk, int64_t{2048});
    v.field("index_interleaved", index_interleaved, false);
    v.field("stage", stage, std::string("sparse"));
    v.field("index_loss", index_loss, 0.0);
    v.field("as", as, std::string());
    v.field("of", of, std::string());
  }
  bool indexer_given() const {
    const DsaConfig plain;
    return index_n_heads != plain.index_n_heads || index_head_dim != plain.index_head_dim ||
           index_topk != plain.index_topk || index_interleaved || stage != plain.stage ||
           index_loss != 0;
  }
};

[[noreturn]] void usage(const std::string& message) {
  throw Error(ErrorKind::kUsage, "dsa: " + message);
}

// Without an indexer: how many keys, and in which stage, says the layer whose choice it takes.
void take_link(const DsaConfig& c, const LayerEnv& env, DsaShape& s) {
  const LinkShape& choice = find_link(env.links, "dsa", c.of, "selection");
  if (!c.as.empty()) usage(format("of={} chooses nothing that as={} could publish", c.of, c.as));
  if (c.indexer_given())
    usage(format("of={} has no indexer; its options belong to the layer as={}", c.of, c.of));
  s.top = choice.sizes[0];
  s.warmup = choice.sizes[1] != 0;
}

DsaShape resolve(const DsaConfig& c, const LayerEnv& env) {
  DsaShape s;
  s.latent = resolve_latent("dsa", c.latent, env);
  if (!c.of.empty()) {
    take_link(c, env, s);
    return s;
  }
  for (const auto& [key, value] : {std::pair("index_n_heads", c.index_n_heads),
                                   {"index_head_dim", c.index_head_dim},
                                   {"index_topk", c.index_topk}}) {
    if (value < 1) usage(format("{}={} is not positive", key, value));
  }
  if (s.latent.rotate && s.latent.rope > c.index_head_dim) {
    usage(format("qk_rope_head_dim={} channels turn, index_head_dim={} has fewer", s.latent.rope,
                 c.index_head_dim));
  }
  if (c.stage != "sparse" && c.stage != "warmup")
    usage(format("stage={} is neither sparse nor warmup", c.stage));
  if (!(c.index_loss >= 0)) usage(format("index_loss={} is negative", c.index_loss));
  s.index_heads = c.index_n_heads;
  s.index_dim = c.index_head_dim;
  s.top = c.index_topk;
  s.index_interleaved = c.index_interleaved;
  s.warmup = c.stage == "warmup";
  if (!c.as.empty() && env.links != nullptr)
    env.links->declare(c.as, {"selection", {s.top, s.warmup ? 1 : 0}});
  return s;
}

using Selection = std::shared_ptr<const KeySelection>;

Tensor detached(Tensor x) {
  if (x.defined()) x.set_slot(-1);
  return x;
}

class Dsa final : public LatentMixer, public Chooser {
 public:
  Dsa(DsaConfig config, const DsaShape& s, const LayerEnv& env, ParamBuilder& params)
      : LatentMixer(s.latent, env, params),
        config_(std::move(config)),
        shape_(s),
        rotation_{s.latent.theta, s.latent.rope, s.index_interleaved, 0, s.latent.scaling} {
    if (reads()) return;
    ParamBuilder own = params.scope("indexer");
    const int64_t in = s.latent.q_rank > 0 ? s.latent.q_rank : env.width;
    wq_ = &own.matrix("wq_b.weight", s.index_heads * s.index_dim, in, env.init_std);
    wk_ = &own.matrix("wk.weight", s.index_dim, env.width, env.init_std);
    k_norm_ = &own.vector("k_norm.weight", {s.index_dim}, Init::ones());
    k_norm_bias_ = &own.vector("k_norm.bias", {s.index_dim}, Init::zeros());
    weights_ = &own.gate_matrix("weights_proj.weight", s.index_heads, env.width, env.init_std);
  }

  std::unique_ptr<LayerState> make_state(const Context& ctx,
                                         const StateOptions& options) const override {
    std::vector<std::unique_ptr<LayerState>> members;
    members.push_back(
        std::make_unique<LatentKv>(ctx, shape_.latent.rank, shape_.latent.rope, options.kv));
    if (!reads())
      members.push_back(
          std::make_unique<LatentKv>(ctx, shape_.index_dim, 0));  // f32: scores choose
    return std::make_unique<GroupState>(std::move(members));
  }
  size_t state_bytes(int64_t tokens, const StateOptions& options) const override {
    const size_t own =
        LatentKv::bytes_at(shape_.latent.rank, shape_.latent.rope, tokens, options.kv);
    return reads() ? own : own + LatentKv::bytes_at(shape_.index_dim, 0, tokens);
  }
  // The chosen latents, and to choose them the index key of every token.
  size_t state_read_bytes(int64_t tokens, const StateOptions& options) const override {
    const auto rows = [](int64_t n, size_t bytes) { return static_cast<size_t>(n) * bytes; };
    const size_t own = rows(
        kept_of(tokens), LatentKv::row_bytes(shape_.latent.rank, shape_.latent.rope, options.kv));
    const bool chooses = !reads() && !shape_.warmup && tokens >= shape_.top;
    return chooses ? own + rows(tokens, LatentKv::row_bytes(shape_.index_dim, 0)) : own;
  }
  Options options() const override { return write_options(config_); }
  AttendedPositions positions() const override { return positions_of(config_.latent); }

  int64_t sees() const override { return shape_.top; }
  std::unique_ptr<Layer> narrowed() const override {
    if (reads() || shape_.warmup) return nullptr;
    auto small = std::make_unique<Dsa>(*this);
    small->config_.index_topk = small->shape_.top = std::min(shape_.top, kFewKeys);
    return small;
  }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t tokens) const override {
    const DsaRef ref(shape_, reference_weights(params), params);
    MlaRef::Chosen chosen;
    if (reads()) {
      for (const std::vector<double>& of : params.links->get(config_.of))
        chosen.emplace_back(of.begin(), of.end());
    } else {
      chosen = ref.chosen(x, tokens);
    }
    if (!config_.as.empty() && params.links != nullptr) {
      std::vector<std::vector<double>> published;
      for (const std::vector<int64_t>& of : chosen) published.emplace_back(of.begin(), of.end());
      params.links->put(config_.as, std::move(published));
    }
    return ref(x, tokens, chosen);
  }

 private:
  struct Index {
    Tensor q, k, weights;  // [T, Hi, di], [T, di], [T, Hi] with all factors
  };

  // Nothing of the indexer's gradients goes on into the model.
  Index index(const Context& ctx, const Tensor& x, const Parts& parts, const Batch& batch) {
    const int64_t tokens = x.size(0), h = shape_.index_heads, d = shape_.index_dim;
    const Tensor in = detached(x), latent = detached(parts.query_latent);
    Index i;
    i.q = reshape(ctx, linear(ctx, latent.defined() ? latent : in, *wq_), {tokens, h, d});
    i.k = layer_norm(ctx, linear(ctx, in, *wk_), *k_norm_, *k_norm_bias_, kKeyNormEps);
    if (shape_.latent.rotate) {
      const Tensor table =
          rope_table(ctx, rotation_, batch.seq_starts, batch.offsets, batch.contexts);
      i.q = rope(ctx, rotation_, i.q, table);
      i.k =
          reshape(ctx, rope(ctx, rotation_, reshape(ctx, i.k, {tokens, 1, d}), table), {tokens, d});
    }
    i.weights = scale(ctx, linear(ctx, in, *weights_), 1.0f / std::sqrt(static_cast<float>(h * d)));
    return i;
  }

  bool reads() const { return !config_.of.empty(); }

  Tensor attend(const Context& ctx, const Tensor& x, const Parts& parts, const Batch& batch,
                States states) override {
    if (!states.empty()) return over_states(ctx, x, parts, batch, states);
    const bool trains = ctx.tape != nullptr && config_.index_loss > 0;
    Context plain = ctx;
    plain.tape = nullptr;
    int64_t longest = 0;
    for (int64_t s = 0; s < batch.sequences(); ++s) longest = std::max(longest, batch.length(s));
    const bool dense = shape_.warmup || longest <= shape_.top;
    Index i;
    Selection chosen;
    if (reads()) {
      chosen = batch.links->get(config_.of).keys;
    } else if (!dense || trains) {
      i = index(trains ? ctx : plain, x, parts, batch);
      chosen = std::make_shared<const KeySelection>(select(plain, i, batch));
    }
    publish(batch, chosen);
    if (dense && !trains) return expanded(ctx, parts, batch);
    const auto [k, v] = expand(ctx, parts);
    const double factor = shape_.latent.scale;
    const Tensor o =
        dense ? attention(ctx, latent_config().expanded(), parts.q, k, v, batch.seq_starts)
              : selected_attention(ctx, parts.q, k, v, factor, chosen, batch.seq_starts);
    if (!trains) return o;
    return with_index_loss(
        ctx, o,
        {config_.index_loss, factor, detached(parts.q), detached(k), i.q, i.k, i.weights, chosen},
        batch.seq_starts);
  }

  void publish(const Batch& batch, const Selection& chosen) const {
    if (!config_.as.empty() && batch.links != nullptr)
      batch.links->put(config_.as, {.tensors = {}, .states = {}, .keys = chosen});
  }

  // The most keys of a token of a sequence of n.
  int64_t kept_of(int64_t n) const { return shape_.warmup ? n : std::min(n, shape_.top); }

  // What every token of a batch without states attends to, as rows of the batch.
  KeySelection select(const Context& ctx, const Index& i, const Batch& batch) const {
    KeySelection all;
    all.starts.push_back(0);
    for (int64_t s = 0; s < batch.sequences(); ++s) {
      const int64_t first = batch.seq_starts[static_cast<size_t>(s)], n = batch.length(s);
      if (n == 0) continue;
      std::vector<Chosen> own(static_cast<size_t>(n));
      if (shape_.warmup || n <= shape_.top) {
        for (int64_t t = 0; t < n; ++t) {
          own[static_cast<size_t>(t)].resize(static_cast<size_t>(t) + 1);
          std::iota(own[static_cast<size_t>(t)].begin(), own[static_cast<size_t>(t)].end(), 0);
        }
      } else {
        const KeyPages keys(ctx, i.k.narrow(0, first, n));
        own = choose_keys(ctx, i.q.narrow(0, first, n), i.weights.narrow(0, first, n), keys.view(),
                          0, shape_.top);
      }
      for (int64_t t = 0; t < n && ctx.dry(); ++t) {  // as many as a run would choose
        own[static_cast<size_t>(t)].assign(static_cast<size_t>(std::min(t + 1, kept_of(n))), 0);
      }
      for (const Chosen& c : own) {
        for (const int32_t position : c) all.keys.push_back(static_cast<int32_t>(first) + position);
        all.starts.push_back(std::ssize(all.keys));
      }
    }
    return all;
  }

  // Who stands among the first index_topk sees everything before it: the first so many of the
  // batch's tokens of sequence s.
  int64_t dense_of(const Batch& batch, int64_t s) const {
    const int64_t n = batch.length(s);
    if (shape_.warmup) return n;
    return std::clamp<int64_t>(shape_.top - batch.offsets[static_cast<size_t>(s)], 0, n);
  }

  // The positions that every token attends to, with an empty list for all before it. Index keys of
  // this call are kept first.
  Selection select_kept(const Context& ctx, const Index& i, const Batch& batch,
                        States states) const {
    auto all = std::make_shared<KeySelection>();
    all->starts.push_back(0);
    for (size_t s = 0; s < states.size(); ++s) {
      auto& keys = dynamic_cast<LatentKv&>(dynamic_cast<GroupState&>(*states[s]).member(1));
      const int64_t first = batch.seq_starts[s], n = batch.length(static_cast<int64_t>(s));
      keys.append(ctx, i.k.data() + first * shape_.index_dim, shape_.index_dim, nullptr, 0, n);
      const int64_t dense = dense_of(batch, static_cast<int64_t>(s));
      all->starts.insert(all->starts.end(), static_cast<size_t>(dense), std::ssize(all->keys));
      if (dense == n) continue;
      std::vector<Chosen> chosen = choose_keys(ctx, i.q.narrow(0, first + dense, n - dense),
                                               i.weights.narrow(0, first + dense, n - dense),
                                               keys.view(), batch.offsets[s] + dense, shape_.top);
      for (Chosen& c : chosen) {
        if (ctx.dry()) c.resize(static_cast<size_t>(shape_.top));  // counts what a run would hold
        all->keys.insert(all->keys.end(), c.begin(), c.end());
        all->starts.push_back(std::ssize(all->keys));
      }
    }
    return all;
  }

  Tensor over_states(const Context& ctx, const Tensor& x, const Parts& parts, const Batch& batch,
                     States states) {
    const Selection chosen = reads() ? batch.links->get(config_.of).keys
                                     : select_kept(ctx, index(ctx, x, parts, batch), batch, states);
    publish(batch, chosen);
    const MlaShape& l = shape_.latent;
    Tensor out = Tensor::empty(ctx, {parts.q.size(0), l.heads, l.dv});
    const int64_t row = l.heads * l.dv;
    // Queries [from, from + count) of the batch, each part of `starts` over a view of its own.
    const auto run = [&](int64_t from, int64_t count, const std::vector<int64_t>& starts,
                         const std::vector<LatentView>& views) {
      const Tensor o = latent_attention(ctx, latent_config(), parts.q.narrow(0, from, count),
                                        kv_b(), starts, views);
      if (!ctx.dry()) std::copy_n(o.data(), count * row, out.data() + from * row);
    };
    for (size_t s = 0; s < states.size(); ++s) {
      auto& latents = dynamic_cast<LatentKv&>(dynamic_cast<GroupState&>(*states[s]).member(0));
      append(ctx, parts, batch, static_cast<int64_t>(s), latents);
      const int64_t first = batch.seq_starts[s], n = batch.length(static_cast<int64_t>(s));
      const int64_t dense = dense_of(batch, static_cast<int64_t>(s));
      if (dense > 0) {
        LatentView before = latents.view();
        before.length = batch.offsets[s] + dense;
        run(first, dense, {0, dense}, {before});
      }
      for (int64_t at = dense; at < n; at += kTogether) {
        const int64_t count = std::min(kTogether, n - at);
        std::vector<LatentView> views;
        std::vector<int64_t> starts = {0};
        for (int64_t t = at; t < at + count; ++t) {
          views.push_back(chosen_latents(latents.view(), chosen->of(first + t, 0)));
          starts.push_back(std::ssize(starts));
        }
        run(first + at, count, starts, views);
      }
    }
    return out;
  }

  DsaConfig config_;
  DsaShape shape_;
  RopeConfig rotation_;
  // The indexer's; null for a reader.
  Parameter *wq_ = nullptr, *wk_ = nullptr, *k_norm_ = nullptr, *k_norm_bias_ = nullptr;
  Parameter* weights_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_dsa(const Options& options, const LayerEnv& env, ParamBuilder& params) {
  auto config = read_options<DsaConfig>("dsa", options);
  const DsaShape shape = resolve(config, env);
  return std::make_unique<Dsa>(std::move(config), shape, env, params);
}

}  // namespace braid
