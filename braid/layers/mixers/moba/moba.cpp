#include "braid/layers/mixers/moba/moba_ref.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "braid/base/format.h"
#include "braid/layers/mixer.h"
#include "braid/ops/linear.h"
#include "braid/ops/rope.h"
#include "braid/ops/selected_attention.h"
#include "braid/ops/view.h"
#include "braid/state/group_state.h"
#include "braid/state/latent_kv.h"

namespace braid {
namespace {

struct MobaConfig {
  AttentionHeads heads;
  int64_t block = 512;  // tokens of a block
  int64_t top_k = 3;    // blocks a token sees, its own included
  void visit(OptionVisitor& v) {
    heads.visit(v);
    v.field("block", block, int64_t{512});
    v.field("top_k", top_k, int64_t{3});
  }
};

[[noreturn]] void usage(const std::string& message) {
  throw Error(ErrorKind::kUsage, "moba: " + message);
}

MobaShape resolve(const MobaConfig& c, const LayerEnv& env) {
  MobaShape s{c.heads.resolved("moba", env)};
  s.require_pairs("moba");
  s.width = env.width;
  if (c.block < 1) usage(format("block={} is not positive", c.block));
  if (c.top_k < 1) usage(format("top_k={} is not positive; 1 is the token's own block", c.top_k));
  s.block = c.block;
  s.top = c.top_k;
  return s;
}

class Moba final : public Layer {
 public:
  Moba(const MobaConfig& config, const MobaShape& s, const LayerEnv& env, ParamBuilder& params)
      : config_(config),
        shape_(s),
        inputs_{&params.matrix("q_proj.weight", s.heads * s.head_dim, env.width, env.init_std),
                &params.matrix("k_proj.weight", s.kv_heads * s.head_dim, env.width, env.init_std),
                &params.matrix("v_proj.weight", s.kv_heads * s.head_dim, env.width, env.init_std)},
        o_(params.matrix("o_proj.weight", env.width, s.heads * s.head_dim, env.out_init_std)) {}

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const int64_t tokens = x.size(0), d = shape_.head_dim;
    const std::vector<Tensor> in = linear_many(ctx, x, inputs_);
    Tensor q = reshape(ctx, in[0], {tokens, shape_.heads, d});
    Tensor k = reshape(ctx, in[1], {tokens, shape_.kv_heads, d});
    const Tensor v = reshape(ctx, in[2], {tokens, shape_.kv_heads, d});
    if (shape_.rope) {
      const RopeConfig rotation = shape_.rotation();
      const Tensor table = rope_table(ctx, rotation, batch.seq_starts, batch.offsets);
      q = rope(ctx, rotation, q, table);
      k = rope(ctx, rotation, k, table);
    }
    const Tensor o =
        states.empty() ? over_batch(ctx, q, k, v, batch) : over_states(ctx, q, k, v, batch, states);
    return linear(ctx, reshape(ctx, o, {tokens, shape_.heads * d}), o_);
  }

  std::unique_ptr<LayerState> make_state(const Context& ctx,
                                         const StateOptions& options) const override {
    check_type(options);
    std::vector<std::unique_ptr<LayerState>> members;
    members.push_back(std::make_unique<LatentKv>(ctx, row(), row()));  // keys, then values
    // Mean keys of whole blocks.
    members.push_back(std::make_unique<LatentKv>(ctx, row(), 0, KvType::kF32, shape_.block));
    return std::make_unique<GroupState>(std::move(members));
  }
  size_t state_bytes(int64_t tokens, const StateOptions& options) const override {
    check_type(options);
    return LatentKv::bytes_at(row(), row(), tokens) +
           LatentKv::bytes_at(row(), 0, tokens / shape_.block);
  }
  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return moba_ref(shape_, params, x);
  }

 private:
  int64_t row() const { return shape_.kv_heads * shape_.head_dim; }

  static void check_type(const StateOptions& options) {
    if (options.kv == KvType::kF32) return;
    usage("keeps keys and values as f32; another type of kept keys and values (--kv) is not here");
  }

  // Adds key [Hkv, d] of the block's i-th token to its sum, and divides when it is whole. Always in
  // the order of tokens, so that a mean has the same bits however the sequence was cut.
  void add_key(const float* key, bool last, std::vector<float>& sum) const {
    for (int64_t c = 0; c < row(); ++c) sum[static_cast<size_t>(c)] += key[c];
    if (!last) return;
    for (float& v : sum) v /= static_cast<float>(shape_.block);
  }

  // Blocks of the token at `position` for query head h: the best of those before its own.
  std::vector<int32_t> choose(const Context& ctx, const float* query, int64_t h, int64_t position,
                              const std::vector<const float*>& means) const {
    const int64_t own = position / shape_.block, d = shape_.head_dim;
    std::vector<float> gates(static_cast<size_t>(own));
    const int64_t kv = h / (shape_.heads / shape_.kv_heads);
    for (int64_t b = 0; b < own && !ctx.dry(); ++b) {
      const float* mean = means[static_cast<size_t>(b)] + kv * d;
      for (int64_t c = 0; c < d; ++c) gates[static_cast<size_t>(b)] += query[c] * mean[c];
    }
    std::vector<int32_t> blocks = largest(gates, shape_.top - 1);
    blocks.push_back(static_cast<int32_t>(own));
    return blocks;
  }

  // Appends the lists of the token at `position`, one for every head; `first` is its sequence's
  // first row.
  void append_lists(const Context& ctx, const float* queries, int64_t position, int64_t first,
                    const std::vector<const float*>& means, KeySelection& to) const {
    for (int64_t h = 0; h < shape_.heads; ++h) {
      const std::vector<int32_t> blocks =
          choose(ctx, queries + h * shape_.head_dim, h, position, means);
      for (const int32_t b : blocks) {
        const int64_t begin = b * shape_.block;
        const int64_t end = std::min(begin + shape_.block, position + 1);
        for (int64_t i = begin; i < end; ++i) to.keys.push_back(static_cast<int32_t>(first + i));
      }
      to.starts.push_back(std::ssize(to.keys));
    }
  }

  Tensor over_batch(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                    const Batch& batch) const {
    auto selection = std::make_shared<KeySelection>();
    selection->sets = shape_.heads;
    selection->starts.push_back(0);
    for (int64_t s = 0; s < batch.sequences(); ++s) {
      const int64_t first = batch.seq_starts[static_cast<size_t>(s)], n = batch.length(s);
      std::vector<std::vector<float>> sums(static_cast<size_t>(n / shape_.block),
                                           std::vector<float>(static_cast<size_t>(row())));
      std::vector<const float*> means;
      for (auto& sum : sums) means.push_back(sum.data());
      for (int64_t t = 0; t < n; ++t) {
        const int64_t b = t / shape_.block;
        if (b < std::ssize(sums) && !ctx.dry()) {
          add_key(k.data() + (first + t) * row(), (t + 1) % shape_.block == 0,
                  sums[static_cast<size_t>(b)]);
        }
        append_lists(ctx, q.data() + (first + t) * shape_.heads * shape_.head_dim, t, first, means,
                     *selection);
      }
    }
    return selected_attention(ctx, q, k, v, shape_.scale(), selection, batch.seq_starts);
  }

  // The means of blocks that have become whole, from the kept keys.
  void finish_blocks(const Context& ctx, const LatentKv& rows, LatentKv& means) const {
    while ((means.length() + 1) * shape_.block <= rows.length()) {
      std::vector<float> sum(static_cast<size_t>(row()));
      const int64_t begin = means.length() * shape_.block;
      for (int64_t i = 0; i < shape_.block && !ctx.dry(); ++i) {
        add_key(reinterpret_cast<const float*>(rows.view().row(begin + i)), i + 1 == shape_.block,
                sum);
      }
      means.append(ctx, sum.data(), row(), nullptr, 0, 1);
    }
  }

  Tensor over_states(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                     const Batch& batch, States states) const {
    Tensor out = Tensor::empty(ctx, q.shape());
    for (size_t s = 0; s < states.size(); ++s) {
      auto& group = dynamic_cast<GroupState&>(*states[s]);
      auto& rows = dynamic_cast<LatentKv&>(group.member(0));
      auto& kept = dynamic_cast<LatentKv&>(group.member(1));
      const int64_t first = batch.seq_starts[s], n = batch.length(static_cast<int64_t>(s)),
                    position = batch.offsets[s];
      BRAID_CHECK(rows.length() == position);
      if (n == 0) continue;
      rows.append(ctx, k.data() + first * row(), row(), v.data() + first * row(), row(), n);
      finish_blocks(ctx, rows, kept);
      std::vector<const float*> means;
      for (int64_t b = 0; b < kept.length(); ++b)
        means.push_back(reinterpret_cast<const float*>(kept.view().row(b)));
      KeySelection selection;
      selection.sets = shape_.heads;
      selection.starts.push_back(0);
      for (int64_t t = 0; t < n; ++t) {
        append_lists(ctx, q.data() + (first + t) * shape_.heads * shape_.head_dim, position + t, 0,
                     means, selection);
      }
      selected_attention_kept(ctx, q.narrow(0, first, n), rows.view(), shape_.kv_heads,
                              shape_.scale(), selection, out.narrow(0, first, n));
    }
    return out;
  }

  MobaConfig config_;
  MobaShape shape_;
  std::vector<Parameter*> inputs_;  // q, k, v
  Parameter& o_;
};

}  // namespace

std::unique_ptr<Layer> make_moba(const Options& options, const LayerEnv& env,
                                 ParamBuilder& params) {
  const auto config = read_options<MobaConfig>("moba", options);
  return std::make_unique<Moba>(config, resolve(config, env), env, params);
}

}  // namespace braid
