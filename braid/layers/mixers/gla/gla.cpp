#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/layers/mixers/gla/gla_ref.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/ops/decay_gate.h"
#include "braid/ops/gated_norm.h"
#include "braid/ops/linear.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

struct GlaConfig {
  HeadOptions heads;
  int64_t conv = 0;        // taps of the short convolutions, 0 = none and no silu either
  int64_t gate_rank = 16;  // of the decay's projection
  void visit(OptionVisitor& v) {
    heads.visit(v);
    v.field("conv", conv, int64_t{0});
    v.field("gate_rank", gate_rank, int64_t{16});
  }
};

class Gla final : public RecurrentMixer {
 public:
  Gla(const GlaConfig& config, const HeadSizes& n, const LayerEnv& env, ParamBuilder& params)
      : RecurrentMixer({n, config.conv, QkvFront::channels(n)}),
        config_(config),
        width_(env.width),
        eps_(env.norm_eps),
        qkv_(params, env, n, config.conv),
        inputs_(qkv_.projections()),
        gk_up_(params.gate_matrix("gk_proj.1.weight", n.keys(), config.gate_rank, env.init_std)),
        gk_bias_(params.vector("gk_proj.1.bias", {n.keys()}, Init::zeros())),
        norm_(params.vector("g_norm_swish_gate.weight", {n.value_dim}, Init::ones())),
        o_proj_(params.matrix("o_proj.weight", env.width, n.values(), env.out_init_std)) {
    inputs_.push_back(
        &params.gate_matrix("gk_proj.0.weight", config.gate_rank, env.width, env.init_std));
    inputs_.push_back(&params.matrix("g_proj.weight", n.values(), env.width, env.init_std));
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const HeadSizes& n = sizes();
    const RecurrentStates kept(memory(), states);
    const std::vector<Tensor> in = linear_many(ctx, x, inputs_);
    RecurrenceInputs r;
    if (config_.conv > 0) {
      const QkvFront::Qkv qkv = qkv_(ctx, in, batch, kept);
      r.q = qkv.q;
      r.k = qkv.k;
      r.v = qkv.v;
    } else {
      r.q = as_heads(ctx, in[0], n.heads);
      r.k = as_heads(ctx, in[1], n.heads);
      r.v = as_heads(ctx, in[2], n.value_heads);
    }
    r.g = log_sigmoid_gate(ctx, as_heads(ctx, linear(ctx, in[3], gk_up_), n.heads), &gk_bias_,
                           kGlaGateScale);
    Tensor o = recurrence(ctx, gla_recurrence(n), r, batch.seq_starts, kept.matrices());
    kept.advance(batch);
    o = gated_norm(ctx, o, as_heads(ctx, in[4], n.value_heads), norm_, eps_, GateAct::kSilu);
    return linear(ctx, reshape(ctx, o, {x.size(0), n.values()}), o_proj_);
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return gla_ref({sizes(), width_, config_.conv > 0, 1, eps_}, params, x);
  }

 private:
  GlaConfig config_;
  int64_t width_;
  double eps_;
  QkvFront qkv_;
  std::vector<Parameter*> inputs_;  // weights on x: q, k, v, gk_proj.0, g
  Parameter &gk_up_, &gk_bias_, &norm_, &o_proj_;
};

}  // namespace

std::unique_ptr<Layer> make_gla(const Options& options, const LayerEnv& env, ParamBuilder& params) {
  const auto config = read_options<GlaConfig>("gla", options);
  check_conv_taps("gla", config.conv);
  if (config.gate_rank < 1)
    throw Error(ErrorKind::kUsage, format("gla: gate_rank={} is not positive", config.gate_rank));
  return std::make_unique<Gla>(config, resolve_heads("gla", config.heads, env, 2, 2), env, params);
}

}  // namespace braid
