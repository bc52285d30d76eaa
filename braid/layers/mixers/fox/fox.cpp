#include <cmath>
#include <utility>

#include "braid/base/format.h"
#include "braid/layers/attender.h"
#include "braid/layers/mixer.h"
#include "braid/layers/mixers/fox/fox_ref.h"
#include "braid/layers/mixers/kv_cache.h"
#include "braid/ops/decay_gate.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"
#include "braid/ops/moe_experts.h"
#include "braid/ops/norm.h"
#include "braid/ops/rope.h"
#include "braid/ops/token_shift.h"
#include "braid/ops/view.h"
#include "braid/state/conv_state.h"
#include "braid/state/group_state.h"

namespace braid {
namespace {

struct FoxConfig {
  AttentionHeads heads{.rope = false};
  int64_t window = 0;     // tokens seen, the current one included; 0: all
  bool qk_norm = false;   // RMSNorm of every head of q and k
  bool out_norm = false;  // and of the heads' outputs
  bool gate = false;      // sigmoid gate on those
  bool shift = false;     // keys and values mixed with those of the token before
  void visit(OptionVisitor& v) {
    heads.visit(v, false);
    v.field("window", window, int64_t{0});
    v.field("qk_norm", qk_norm, false);
    v.field("out_norm", out_norm, false);
    v.field("gate", gate, false);
    v.field("shift", shift, false);
  }
};

[[noreturn]] void usage(std::string message) {
  throw Error(ErrorKind::kUsage, "fox: " + std::move(message));
}

FoxShape resolve(const FoxConfig& c, const LayerEnv& env) {
  FoxShape s{c.heads.resolved("fox", env)};
  s.require_pairs("fox");
  s.width = env.width;
  if (c.window < 0) usage(format("window={} is negative; 0 is no window", c.window));
  if (c.window > 0 && env.meta_tokens > 0)
    usage(format("window={} would hide the {} meta tokens", c.window, env.meta_tokens));
  s.window = c.window;
  s.qk_norm = c.qk_norm;
  s.out_norm = c.out_norm;
  s.gate = c.gate;
  s.shift = c.shift;
  s.eps = env.norm_eps;
  return s;
}

class Fox final : public Layer, public Attender {
 public:
  Fox(const FoxConfig& config, const FoxShape& s, const LayerEnv& env, ParamBuilder& params)
      : config_(config),
        shape_(s),
        inputs_{&params.matrix("q_proj.weight", s.heads * s.head_dim, env.width, env.init_std),
                &params.matrix("k_proj.weight", s.kv_heads * s.head_dim, env.width, env.init_std),
                &params.matrix("v_proj.weight", s.kv_heads * s.head_dim, env.width, env.init_std),
                &params.gate_matrix("fgate_proj.weight", s.heads, env.width, env.init_std)},
        forget_bias_(params.vector("fgate_proj.bias", {s.heads}, Init::zeros())),
        o_(params.matrix("o_proj.weight", env.width, s.heads * s.head_dim, env.out_init_std)) {
    for (const char* name : {"k_proj.shift_proj.weight", "v_proj.shift_proj.weight"}) {
      if (s.shift)
        inputs_.push_back(&params.gate_matrix(name, s.kv_heads, env.width, env.init_std));
    }
    if (s.gate)
      inputs_.push_back(
          &params.matrix("ogate_proj.weight", s.heads * s.head_dim, env.width, env.init_std));
    if (s.qk_norm) {
      q_norm_ = &params.vector("q_norm.weight", {s.heads * s.head_dim}, Init::ones());
      k_norm_ = &params.vector("k_norm.weight", {s.kv_heads * s.head_dim}, Init::ones());
    }
    if (s.out_norm)
      out_norm_ = &params.vector("output_norm.weight", {s.heads * s.head_dim}, Init::ones());
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const int64_t tokens = x.size(0), d = shape_.head_dim;
    const std::vector<Tensor> in = linear_many(ctx, x, inputs_);
    const RopeConfig rotation = shape_.rotation();
    Tensor table;
    if (shape_.rope) table = rope_table(ctx, rotation, batch.seq_starts, batch.offsets);
    const auto prepared = [&](const Tensor& projected, int64_t heads, Parameter* gains) {
      Tensor y = reshape(ctx, projected, {tokens, heads, d});
      if (gains != nullptr) y = rms_norm(ctx, y, *gains, shape_.eps);
      return shape_.rope ? rope(ctx, rotation, y, table) : y;
    };
    const std::vector<LayerState*> caches = members(states, 0);
    const Tensor q = prepared(in[0], shape_.heads, q_norm_);
    const Tensor k = prepared(shifted(ctx, in, 0, batch, states), shape_.kv_heads, k_norm_);
    const Tensor v = reshape(ctx, shifted(ctx, in, 1, batch, states), {tokens, shape_.kv_heads, d});
    const Tensor log_forget = log_sigmoid_gate(ctx, in[3], &forget_bias_, 1);
    LinkValue kv = kept_kv(ctx, k, v, batch, caches, log_forget);
    Tensor o = attend_kv(ctx, attention_config(), q, batch, kv);
    publish_kv(batch, "", std::move(kv));
    if (out_norm_ != nullptr) o = rms_norm(ctx, o, *out_norm_, shape_.eps);
    o = reshape(ctx, o, {tokens, shape_.heads * d});
    if (shape_.gate) o = sigmoid_mul(ctx, o, in.back());
    return linear(ctx, o, o_);
  }

  std::unique_ptr<LayerState> make_state(const Context& ctx,
                                         const StateOptions& options) const override {
    std::unique_ptr<LayerState> kv = make_kv(ctx, kv_shape(), options);
    if (!shape_.shift) return kv;
    std::vector<std::unique_ptr<LayerState>> all;
    all.push_back(std::move(kv));
    for (int i = 0; i < 2; ++i)
      all.push_back(std::make_unique<ConvState>(ctx, 2, shape_.kv_heads * shape_.head_dim));
    return std::make_unique<GroupState>(std::move(all));
  }
  size_t state_bytes(int64_t tokens, const StateOptions& options) const override {
    return kv_bytes(kv_shape(), tokens, options) + last_bytes();
  }
  size_t state_read_bytes(int64_t tokens, const StateOptions& options) const override {
    return kv_read_bytes(kv_shape(), tokens, options) + last_bytes();
  }
  Options options() const override { return write_options(config_); }
  AttendedPositions positions() const override { return config_.heads.positions(shape_.window); }
  bool needs_library() const override { return attention_needs_library(attention_config()); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return fox_ref(shape_, params, x);
  }

 private:
  // Of the last key and value, which the next ones are mixed with.
  size_t last_bytes() const {
    const int64_t last = shape_.shift ? 2 * shape_.kv_heads * shape_.head_dim : 0;
    return static_cast<size_t>(last) * sizeof(float);
  }
  KvShape kv_shape() const {
    return {shape_.kv_heads, shape_.head_dim, shape_.window, 0, shape_.heads};
  }
  // With a shift a state is the cache, then the last raw key and the last raw value.
  std::vector<LayerState*> members(States states, size_t i) const {
    std::vector<LayerState*> out(states.begin(), states.end());
    if (!shape_.shift) return out;
    for (LayerState*& state : out) state = &static_cast<GroupState&>(*state).member(i);
    return out;
  }

  // Projected keys (which = 0) or values (1), each head moved towards those of the token before.
  Tensor shifted(const Context& ctx, const std::vector<Tensor>& in, size_t which,
                 const Batch& batch, States states) const {
    const Tensor& now = in[1 + which];
    if (!shape_.shift) return now;
    const std::vector<LayerState*> kept = members(states, 1 + which);
    std::vector<Tensor> last;
    for (LayerState* state : kept) last.push_back(static_cast<ConvState*>(state)->window());
    const int64_t heads = now.size(0) * shape_.kv_heads;
    const Tensor back =
        reshape(ctx, token_difference(ctx, now, batch.seq_starts, last), {heads, shape_.head_dim});
    for (size_t s = 0; s < kept.size(); ++s)
      static_cast<ConvState*>(kept[s])->advance(batch.length(static_cast<int64_t>(s)));
    const Tensor part = gate_rows(ctx, back, reshape(ctx, in[4 + which], {heads, 1}));
    return add(ctx, now, reshape(ctx, part, now.shape()));
  }

  AttentionConfig attention_config() const {
    AttentionConfig c;
    c.heads = shape_.heads;
    c.kv_heads = shape_.kv_heads;
    c.head_dim = shape_.head_dim;
    c.scale = static_cast<float>(shape_.scale());
    c.window = shape_.window;
    return c;
  }

  FoxConfig config_;
  FoxShape shape_;
  std::vector<Parameter*> inputs_;  // weights on x: q, k, v, forget gate, shifts, output gate
  Parameter &forget_bias_, &o_;
  Parameter *q_norm_ = nullptr, *k_norm_ = nullptr, *out_norm_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_fox(const Options& options, const LayerEnv& env, ParamBuilder& params) {
  const auto config = read_options<FoxConfig>("fox", options);
  return std::make_unique<Fox>(config, resolve(config, env), env, params);
}

}  // namespace braid
