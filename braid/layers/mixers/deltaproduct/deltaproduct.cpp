#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/layers/mixers/deltaproduct/deltaproduct_ref.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/ops/decay_gate.h"
#include "braid/ops/gated_norm.h"
#include "braid/ops/l2_norm.h"
#include "braid/ops/linear.h"
#include "braid/ops/norm.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

struct DeltaproductConfig {
  HeadOptions heads;
  int64_t steps = 2;       // writes per token
  int64_t conv = 4;        // taps of the short convolutions, 0 = none
  bool forget = true;      // decay per head and token
  bool gate = true;        // silu gate on the normed output
  bool neg_eigval = true;  // beta in (0, 2)
  void visit(OptionVisitor& v) {
    heads.visit(v);
    v.field("steps", steps, int64_t{2});
    v.field("conv", conv, int64_t{4});
    v.field("forget", forget, true);
    v.field("gate", gate, true);
    v.field("neg_eigval", neg_eigval, true);
  }
};

class Deltaproduct final : public RecurrentMixer {
 public:
  Deltaproduct(const DeltaproductConfig& config, const HeadSizes& n, const LayerEnv& env,
               ParamBuilder& params)
      : RecurrentMixer({n, config.conv, QkvFront::channels(n, config.steps)}),
        config_(config),
        width_(env.width),
        eps_(env.norm_eps),
        qkv_(params, env, n, config.conv, config.steps),
        inputs_(qkv_.projections()),
        o_norm_(params.vector("o_norm.weight", {n.value_dim}, Init::ones())),
        o_proj_(params.matrix("o_proj.weight", env.width, n.values(), env.out_init_std)) {
    const auto gate = [&](const char* name, int64_t out) {
      inputs_.push_back(&params.gate_matrix(name, out, env.width, env.init_std));
    };
    gate("b_proj.weight", n.value_heads * config.steps);
    if (config.forget) {
      gate("a_proj.weight", n.value_heads);
      a_log_ = &params.vector("A_log", {n.value_heads}, Init::log_of_uniform(0, 16));
      dt_bias_ = &params.vector("dt_bias", {n.value_heads}, Init::dt_bias());
    }
    if (config.gate) {
      inputs_.push_back(&params.matrix("g_proj.weight", n.values(), env.width, env.init_std));
    }
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const HeadSizes& n = sizes();
    const RecurrentStates kept(memory(), states);
    const std::vector<Tensor> in = linear_many(ctx, x, inputs_);
    const QkvFront::Qkv qkv = qkv_(ctx, in, batch, kept);
    RecurrenceInputs r;
    r.q = l2_norm(ctx, qkv.q);
    r.k = l2_norm(ctx, qkv.k);
    r.v = qkv.v;
    const Tensor beta = beta_gate(ctx, in[3], beta_scale());
    r.beta = reshape(ctx, beta, {x.size(0) * config_.steps, n.value_heads});
    if (config_.forget) r.g = decay_gate(ctx, in[4], *a_log_, *dt_bias_);
    Tensor o = recurrence(ctx, deltaproduct_recurrence(n, config_.steps, config_.forget), r,
                          batch.seq_starts, kept.matrices());
    kept.advance(batch);
    if (config_.gate) {
      const Tensor z = as_heads(ctx, in.back(), n.value_heads);
      o = gated_norm(ctx, o, z, o_norm_, eps_, GateAct::kSilu);
    } else {
      o = rms_norm(ctx, o, o_norm_, eps_);
    }
    return linear(ctx, reshape(ctx, o, {x.size(0), n.values()}), o_proj_);
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return deltaproduct_ref({sizes(), width_, config_.conv > 0, beta_scale(), eps_}, config_.steps,
                            config_.forget, config_.gate, params, x);
  }

 private:
  double beta_scale() const { return config_.neg_eigval ? 2 : 1; }

  DeltaproductConfig config_;
  int64_t width_;
  double eps_;
  QkvFront qkv_;
  std::vector<Parameter*> inputs_;  // weights on x: q, k, v, b, then a and g where they are on
  Parameter &o_norm_, &o_proj_;
  Parameter *a_log_ = nullptr, *dt_bias_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_deltaproduct(const Options& options, const LayerEnv& env,
                                         ParamBuilder& params) {
  const auto config = read_options<DeltaproductConfig>("deltaproduct", options);
  check_conv_taps("deltaproduct", config.conv);
  if (config.steps < 1)
    throw Error(ErrorKind::kUsage, format("deltaproduct: steps={} is not positive", config.steps));
  return std::make_unique<Deltaproduct>(config, resolve_heads("deltaproduct", config.heads, env),
                                        env, params);
}

}  // namespace braid
