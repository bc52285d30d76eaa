#include <algorithm>
#include <cmath>
#include <vector>

#include "braid/base/format.h"
#include "braid/layers/mixer.h"
#include "braid/layers/mixers/nsa/nsa_ops.h"
#include "braid/layers/mixers/nsa/nsa_ref.h"
#include "braid/ops/linear.h"
#include "braid/ops/rope.h"
#include "braid/ops/selected_attention.h"
#include "braid/ops/view.h"
#include "braid/state/group_state.h"
#include "braid/state/latent_kv.h"

namespace braid {
namespace {

struct NsaConfig {
  AttentionHeads heads;
  int64_t block = 64;    // tokens of a block, compressed and chosen
  int64_t top_n = 16;    // blocks a token sees by choice
  int64_t window = 512;  // tokens of the sliding branch
  void visit(OptionVisitor& v) {
    heads.visit(v);
    v.field("block", block, int64_t{64});
    v.field("top_n", top_n, int64_t{16});
    v.field("window", window, int64_t{512});
  }
};

[[noreturn]] void usage(const std::string& message) {
  throw Error(ErrorKind::kUsage, "nsa: " + message);
}

NsaShape resolve(const NsaConfig& c, const LayerEnv& env) {
  NsaShape s{c.heads.resolved("nsa", env)};
  s.require_pairs("nsa");
  s.width = env.width;
  for (const auto& [key, value] :
       {std::pair("block", c.block), {"top_n", c.top_n}, {"window", c.window}}) {
    if (value < 1) usage(format("{}={} is not positive", key, value));
  }
  s.block = c.block;
  s.top = c.top_n;
  s.window = c.window;
  return s;
}

// What a token's three branches attend to, one list for every kv head: compressed blocks as rows of
// block means, the others as rows of tokens.
struct Lists {
  KeySelection blocks, chosen, near;
  explicit Lists(int64_t kv_heads) {
    for (KeySelection* s : {&blocks, &chosen, &near}) {
      s->sets = kv_heads;
      s->starts.push_back(0);
    }
  }
};

class Nsa final : public Layer {
 public:
  Nsa(const NsaConfig& config, const NsaShape& s, const LayerEnv& env, ParamBuilder& params)
      : config_(config),
        shape_(s),
        inputs_{&params.matrix("q_proj.weight", s.heads * s.head_dim, env.width, env.init_std),
                &params.matrix("k_proj.weight", s.kv_heads * s.head_dim, env.width, env.init_std),
                &params.matrix("v_proj.weight", s.kv_heads * s.head_dim, env.width, env.init_std),
                &params.gate_matrix("g_proj.weight", 3 * s.heads, env.width, env.init_std)},
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
    const std::array<Tensor, 3> o =
        states.empty() ? over_batch(ctx, q, k, v, batch) : over_states(ctx, q, k, v, batch, states);
    const Tensor y = gated_sum(ctx, o, in[3]);
    return linear(ctx, reshape(ctx, y, {tokens, shape_.heads * d}), o_);
  }

  std::unique_ptr<LayerState> make_state(const Context& ctx,
                                         const StateOptions& options) const override {
    check_type(options);
    std::vector<std::unique_ptr<LayerState>> members;
    members.push_back(std::make_unique<LatentKv>(ctx, row(), row()));  // keys, then values
    // Means of whole blocks.
    members.push_back(std::make_unique<LatentKv>(ctx, row(), row(), KvType::kF32, shape_.block));
    return std::make_unique<GroupState>(std::move(members));
  }
  size_t state_bytes(int64_t tokens, const StateOptions& options) const override {
    check_type(options);
    return LatentKv::bytes_at(row(), row(), tokens) +
           LatentKv::bytes_at(row(), row(), tokens / shape_.block);
  }
  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return NsaRef(shape_, params)(x);
  }

 private:
  int64_t row() const { return shape_.kv_heads * shape_.head_dim; }

  static void check_type(const StateOptions& options) {
    if (options.kv == KvType::kF32) return;
    usage("keeps keys and values as f32; another type of kept keys and values (--kv) is not here");
  }

  // Softmax of the query heads of a group over block means, summed over the heads.
  std::vector<float> importance(const float* queries, int64_t kv,
                                const std::vector<const float*>& means, int64_t whole) const {
    const int64_t d = shape_.head_dim, share = shape_.heads / shape_.kv_heads;
    std::vector<float> sum(static_cast<size_t>(whole), 0.0f), p(sum.size());
    for (int64_t h = kv * share; h < (kv + 1) * share && whole > 0; ++h) {
      float most = -HUGE_VALF, total = 0;
      for (size_t b = 0; b < p.size(); ++b) {
        p[b] = 0;
        for (int64_t c = 0; c < d; ++c) p[b] += queries[h * d + c] * means[b][kv * d + c];
        p[b] *= static_cast<float>(shape_.scale());
        most = std::max(most, p[b]);
      }
      for (float& e : p) total += e = std::exp(e - most);
      for (size_t b = 0; b < p.size(); ++b) sum[b] += p[b] / total;
    }
    return sum;
  }

  // The first block, the token's own and the one before it always; then the most important.
  std::vector<int32_t> choose(std::vector<float> scores, int64_t own) const {
    std::vector<int32_t> always = {static_cast<int32_t>(own)};
    if (own > 0) always.push_back(static_cast<int32_t>(own - 1));
    if (own > 1) always.push_back(0);
    for (const int32_t b : always) {
      if (b < std::ssize(scores)) scores[static_cast<size_t>(b)] = -1;  // probabilities are not
    }
    const int64_t more = std::max<int64_t>(0, shape_.top - std::ssize(always));
    for (const int32_t b : largest(scores, std::min<int64_t>(more, std::ssize(scores)))) {
      if (scores[static_cast<size_t>(b)] >= 0) always.push_back(b);
    }
    std::sort(always.begin(), always.end());
    return always;
  }

  // Lists of the token at `position`; rows count from `first` and block means from `first_mean`.
  void append_lists(const Context& ctx, const float* queries, int64_t position, int64_t first,
                    int64_t first_mean, const std::vector<const float*>& means, Lists& to) const {
    const int64_t whole = (position + 1) / shape_.block;
    for (int64_t kv = 0; kv < shape_.kv_heads; ++kv) {
      for (int64_t b = 0; b < whole; ++b)
        to.blocks.keys.push_back(static_cast<int32_t>(first_mean + b));
      const std::vector<float> scores = ctx.dry() ? std::vector<float>(static_cast<size_t>(whole))
                                                  : importance(queries, kv, means, whole);
      for (const int32_t b : choose(scores, position / shape_.block)) {
        const int64_t begin = b * shape_.block;
        const int64_t end = std::min(begin + shape_.block, position + 1);
        for (int64_t i = begin; i < end; ++i)
          to.chosen.keys.push_back(static_cast<int32_t>(first + i));
      }
      for (int64_t i = std::max<int64_t>(0, position - shape_.window + 1); i <= position; ++i)
        to.near.keys.push_back(static_cast<int32_t>(first + i));
      for (KeySelection* s : {&to.blocks, &to.chosen, &to.near})
        s->starts.push_back(std::ssize(s->keys));
    }
  }

  std::array<Tensor, 3> over_batch(const Context& ctx, const Tensor& q, const Tensor& k,
                                   const Tensor& v, const Batch& batch) const {
    const Tensor mean_k = block_means(ctx, k, batch.seq_starts, shape_.block);
    const Tensor mean_v = block_means(ctx, v, batch.seq_starts, shape_.block);
    Lists lists(shape_.kv_heads);
    int64_t mean = 0;
    for (int64_t s = 0; s < batch.sequences(); ++s) {
      const int64_t first = batch.seq_starts[static_cast<size_t>(s)], n = batch.length(s);
      std::vector<const float*> means;
      for (int64_t b = 0; b < n / shape_.block; ++b)
        means.push_back(mean_k.data() + (mean + b) * row());
      for (int64_t t = 0; t < n; ++t) {
        append_lists(ctx, q.data() + (first + t) * shape_.heads * shape_.head_dim, t, first, mean,
                     means, lists);
      }
      mean += n / shape_.block;
    }
    const auto attend = [&](const Tensor& keys, const Tensor& values, KeySelection& list) {
      return selected_attention(ctx, q, keys, values, shape_.scale(),
                                std::make_shared<const KeySelection>(std::move(list)),
                                batch.seq_starts);
    };
    return {attend(mean_k, mean_v, lists.blocks), attend(k, v, lists.chosen),
            attend(k, v, lists.near)};
  }

  // The means of blocks that have become whole, from the kept keys and values.
  void finish_blocks(const Context& ctx, const LatentKv& rows, LatentKv& means) const {
    while ((means.length() + 1) * shape_.block <= rows.length()) {
      // A block may lie in two pages: gathered first.
      const int64_t width = 2 * row(), begin = means.length() * shape_.block;
      std::vector<float> some(static_cast<size_t>(shape_.block * width)),
          mean(static_cast<size_t>(width));
      for (int64_t i = 0; i < shape_.block && !ctx.dry(); ++i) {
        std::copy_n(reinterpret_cast<const float*>(rows.view().row(begin + i)), width,
                    some.data() + i * width);
      }
      mean_rows(some.data(), width, shape_.block, width, mean.data());
      means.append(ctx, mean.data(), width, mean.data() + row(), width, 1);
    }
  }

  std::array<Tensor, 3> over_states(const Context& ctx, const Tensor& q, const Tensor& k,
                                    const Tensor& v, const Batch& batch, States states) const {
    std::array<Tensor, 3> out;
    for (Tensor& o : out) o = Tensor::empty(ctx, q.shape());
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
      Lists lists(shape_.kv_heads);
      for (int64_t t = 0; t < n; ++t) {
        append_lists(ctx, q.data() + (first + t) * shape_.heads * shape_.head_dim, position + t, 0,
                     0, means, lists);
      }
      const Tensor own = q.narrow(0, first, n);
      const auto attend = [&](const LatentView& view, const KeySelection& list, size_t branch) {
        selected_attention_kept(ctx, own, view, shape_.kv_heads, shape_.scale(), list,
                                out[branch].narrow(0, first, n));
      };
      attend(kept.view(), lists.blocks, 0);
      attend(rows.view(), lists.chosen, 1);
      attend(rows.view(), lists.near, 2);
    }
    return out;
  }

  NsaConfig config_;
  NsaShape shape_;
  std::vector<Parameter*> inputs_;  // q, k, v, gates
  Parameter& o_;
};

}  // namespace

std::unique_ptr<Layer> make_nsa(const Options& options, const LayerEnv& env, ParamBuilder& params) {
  const auto config = read_options<NsaConfig>("nsa", options);
  return std::make_unique<Nsa>(config, resolve(config, env), env, params);
}

}  // namespace braid
