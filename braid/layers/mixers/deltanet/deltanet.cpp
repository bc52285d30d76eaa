#include "braid/layers/mixers/deltanet/deltanet_ref.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/ops/decay_gate.h"
#include "braid/ops/gated_norm.h"
#include "braid/ops/l2_norm.h"
#include "braid/ops/linear.h"
#include "braid/ops/norm.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

struct DeltanetConfig {
  HeadOptions heads;
  int64_t conv = 4;         // taps of the short convolutions, 0 = none
  bool gate = false;        // silu gate on the normed output
  bool neg_eigval = false;  // beta in (0, 2)
  void visit(OptionVisitor& v) {
    heads.visit(v);
    v.field("conv", conv, int64_t{4});
    v.field("gate", gate, false);
    v.field("neg_eigval", neg_eigval, false);
  }
};

class Deltanet final : public RecurrentMixer {
 public:
  Deltanet(const DeltanetConfig& config, const HeadSizes& n, const LayerEnv& env,
           ParamBuilder& params)
      : RecurrentMixer({n, config.conv, QkvFront::channels(n)}),
        config_(config),
        width_(env.width),
        eps_(env.norm_eps),
        qkv_(params, env, n, config.conv),
        inputs_(qkv_.projections()),
        o_norm_(params.vector("o_norm.weight", {n.value_dim}, Init::ones())),
        o_proj_(params.matrix("o_proj.weight", env.width, n.values(), env.out_init_std)) {
    inputs_.push_back(&params.gate_matrix("b_proj.weight", n.value_heads, env.width, env.init_std));
    if (config.gate)
      inputs_.push_back(&params.matrix("g_proj.weight", n.values(), env.width, env.init_std));
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
    r.beta = beta_gate(ctx, in[3], beta_scale());
    Tensor o = recurrence(ctx, deltanet_recurrence(n), r, batch.seq_starts, kept.matrices());
    kept.advance(batch);
    if (config_.gate) {
      o = gated_norm(ctx, o, as_heads(ctx, in[4], n.value_heads), o_norm_, eps_, GateAct::kSilu);
    } else {
      o = rms_norm(ctx, o, o_norm_, eps_);
    }
    return linear(ctx, reshape(ctx, o, {x.size(0), n.values()}), o_proj_);
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return deltanet_ref({sizes(), width_, config_.conv > 0, beta_scale(), eps_}, config_.gate,
                        params, x);
  }

 private:
  double beta_scale() const { return config_.neg_eigval ? 2 : 1; }

  DeltanetConfig config_;
  int64_t width_;
  double eps_;
  QkvFront qkv_;
  std::vector<Parameter*> inputs_;  // weights on x: q, k, v, b and g
  Parameter &o_norm_, &o_proj_;
};

}  // namespace

std::unique_ptr<Layer> make_deltanet(const Options& options, const LayerEnv& env,
                                     ParamBuilder& params) {
  const auto config = read_options<DeltanetConfig>("deltanet", options);
  check_conv_taps("deltanet", config.conv);
  return std::make_unique<Deltanet>(config, resolve_heads("deltanet", config.heads, env), env,
                                    params);
}

}  // namespace braid
