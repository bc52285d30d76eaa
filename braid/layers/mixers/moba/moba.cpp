#include "braid/layers/mixers/moba/moba_ref.h"

#include <algorithm>
#include <vector>

#include "braid/base/format.h"
#include "braid/layers/attender.h"
#include "braid/layers/chooser.h"
#include "braid/layers/mixer.h"
#include "braid/ops/block_choice.h"
#include "braid/ops/chosen_attention.h"
#include "braid/ops/indexer.h"
#include "braid/ops/linear.h"
#include "braid/ops/rope.h"
#include "braid/ops/unfold.h"
#include "braid/ops/view.h"
#include "braid/state/group_state.h"
#include "braid/state/kv_state.h"
#include "braid/state/latent_kv.h"
#include "braid/state/matrix_state.h"

namespace braid {
namespace {

constexpr KvPaging kPaging{.tiles = 1};  // tiles are chosen
constexpr int64_t kQueries = 64;         // of a prefill whose choices are held at a time
// A narrowed layer's: the token's own block and two by choice, which end inside tiles.
constexpr int64_t kFewTokens = 9, kFewBlocks = 3;

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

class Moba final : public Layer, public Attender, public Chooser {
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
    std::vector<std::unique_ptr<LayerState>> members;
    members.push_back(std::make_unique<GrowingKv>(ctx, kv_shape(), options.kv, kPaging));
    // Mean keys of whole blocks, f32: they choose. Then the sum of the keys of the unfinished one.
    members.push_back(std::make_unique<LatentKv>(ctx, row(), 0, KvType::kF32, shape_.block));
    members.push_back(std::make_unique<MatrixState>(ctx, 1, 1, row()));
    return std::make_unique<GroupState>(std::move(members));
  }
  size_t state_bytes(int64_t tokens, const StateOptions& options) const override {
    return GrowingKv::bytes_at(kv_shape(), tokens, options.kv, kPaging) +
           LatentKv::bytes_at(row(), 0, tokens / shape_.block) +
           static_cast<size_t>(row()) * sizeof(float);
  }
  // The token's own block, the mean key of every other and the blocks chosen by them: every query
  // head chooses for itself, so that heads of one key may read different blocks.
  size_t state_read_bytes(int64_t tokens, const StateOptions& options) const override {
    const int64_t whole = tokens / shape_.block;
    const int64_t chosen =
        std::min(whole, shape_.heads / shape_.kv_heads * std::min(whole, shape_.top - 1));
    const auto rows = [](int64_t n, size_t bytes) { return static_cast<size_t>(n) * bytes; };
    return rows(tokens % shape_.block + chosen * shape_.block, kv_shape().row_bytes(options.kv)) +
           rows(1 + (whole < shape_.top ? 0 : whole), LatentKv::row_bytes(row(), 0));
  }
  Options options() const override { return write_options(config_); }
  AttendedPositions positions() const override { return config_.heads.positions(0); }

  int64_t sees() const override { return shape_.block * shape_.top; }
  std::unique_ptr<Layer> narrowed() const override {
    auto small = std::make_unique<Moba>(*this);
    small->config_.block = small->shape_.block = std::min(shape_.block, kFewTokens);
    small->config_.top_k = small->shape_.top = std::min(shape_.top, kFewBlocks);
    return small;
  }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return moba_ref(shape_, params, x);
  }

 private:
  int64_t row() const { return shape_.kv_heads * shape_.head_dim; }
  KvShape kv_shape() const { return {.heads = shape_.kv_heads, .head_dim = shape_.head_dim}; }

  AttentionConfig attention_config() const {
    return {shape_.heads, shape_.kv_heads, shape_.head_dim, static_cast<float>(shape_.scale())};
  }

  // What queries [n, H, d] at positions from `first` on attend to.
  KeyRuns choose(const Context& ctx, const Tensor& q, int64_t first,
                 const LatentView& means) const {
    return runs_of_blocks(
        choose_similar_blocks(ctx, q, first, means, shape_.kv_heads, shape_.block, shape_.top),
        shape_.heads, first, shape_.block);
  }

  Tensor over_batch(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                    const Batch& batch) const {
    Context plain = ctx;
    plain.tape = nullptr;
    const Tensor means = block_means(plain, k, batch.seq_starts, {shape_.block, shape_.block});
    KeyRuns runs;
    int64_t mean = 0;
    for (int64_t s = 0; s < batch.sequences(); ++s) {
      const int64_t first = batch.seq_starts[static_cast<size_t>(s)], n = batch.length(s);
      const int64_t whole = n / shape_.block;
      const KeyPages own(plain, means.narrow(0, mean, whole).reshape({whole, row()}));
      append_runs(choose(plain, q.narrow(0, first, n), 0, own.view()), runs);
      mean += whole;
    }
    return chosen_attention(ctx, attention_config(), q, k, v, runs, batch.seq_starts,
                            batch.seq_starts);
  }

  // Adds keys [n, Hkv, d] to the unfinished block's sum, in the order of tokens, so that a mean has
  // the same bits however the sequence was cut.
  void add_keys(const Context& ctx, const float* keys, int64_t n, MatrixState& sum,
                LatentKv& means) const {
    float* total = sum.matrix().data();
    std::vector<float> mean(static_cast<size_t>(row()));
    for (int64_t t = 0; t < n; ++t) {
      for (int64_t c = 0; c < row() && !ctx.dry(); ++c) total[c] += keys[t * row() + c];
      if ((sum.length() + t + 1) % shape_.block != 0) continue;
      for (int64_t c = 0; c < row() && !ctx.dry(); ++c) {
        mean[static_cast<size_t>(c)] = total[c] / static_cast<float>(shape_.block);
        total[c] = 0;
      }
      means.append(ctx, mean.data(), row(), nullptr, 0, 1);
    }
    sum.advance(n);
  }

  Tensor over_states(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                     const Batch& batch, States states) const {
    Tensor out = Tensor::empty(ctx, q.shape());
    for (size_t s = 0; s < states.size(); ++s) {
      auto& group = dynamic_cast<GroupState&>(*states[s]);
      auto& kv = dynamic_cast<GrowingKv&>(group.member(0));
      auto& means = dynamic_cast<LatentKv&>(group.member(1));
      const int64_t first = batch.seq_starts[s], n = batch.length(static_cast<int64_t>(s)),
                    position = batch.offsets[s];
      BRAID_CHECK(kv.length() == position);
      if (means.length() != position / shape_.block) {  // a file's members can disagree
        throw Error(ErrorKind::kBadInput,
                    format("a state of moba has {} means; its {} tokens make {} blocks",
                           means.length(), position, position / shape_.block));
      }
      kv.append(ctx, k.data() + first * row(), row(), v.data() + first * row(), row(), n);
      add_keys(ctx, k.data() + first * row(), n, dynamic_cast<MatrixState&>(group.member(2)),
               means);
      for (int64_t at = 0; at < n; at += kQueries) {
        const int64_t count = std::min(kQueries, n - at);
        const Tensor some = q.narrow(0, first + at, count);
        const Tensor o = chosen_attention_kept(ctx, attention_config(), some, kv.view(),
                                               choose(ctx, some, position + at, means.view()));
        if (!ctx.dry()) std::copy_n(o.data(), o.count(), out.data() + (first + at) * o.stride(0));
      }
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
