#include "braid/layers/mixers/comba/comba_ref.h"
#include "braid/layers/mixers/comba/scale_heads.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/ops/decay_gate.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/gated_norm.h"
#include "braid/ops/l2_norm.h"
#include "braid/ops/linear.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

struct CombaConfig {
  HeadOptions heads;
  int64_t conv = 4;         // taps of the short convolutions, 0 = none
  bool neg_eigval = false;  // beta in (0, 2)
  void visit(OptionVisitor& v) {
    heads.visit(v);
    v.field("conv", conv, int64_t{4});
    v.field("neg_eigval", neg_eigval, false);
  }
};

class Comba final : public RecurrentMixer {
 public:
  Comba(const CombaConfig& config, const HeadSizes& n, const LayerEnv& env, ParamBuilder& params)
      : RecurrentMixer({n, config.conv, QkvFront::channels(n)}),
        config_(config),
        width_(env.width),
        eps_(env.norm_eps),
        qkv_(params, env, n, config.conv),
        inputs_(qkv_.projections()) {
    for (const char* name : {"a_proj.weight", "b_proj.weight"}) {
      inputs_.push_back(&params.gate_matrix(name, n.value_heads, env.width, env.init_std));
    }
    inputs_.push_back(&params.matrix("g_proj.weight", n.values(), env.width, env.init_std));
    a_log_ = &params.vector("A_log", {n.value_heads}, Init::log_of_uniform(0, 16));
    dt_bias_ = &params.vector("dt_bias", {n.value_heads}, Init::dt_bias());
    decay_ = &params.vector("decay", {n.heads}, Init::ones());
    correction_ = &params.vector("D", {n.heads}, Init::ones());
    o_norm_ = &params.vector("o_norm.weight", {n.value_dim}, Init::ones());
    o_proj_ = &params.matrix("o_proj.weight", env.width, n.values(), env.out_init_std);
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const HeadSizes& n = sizes();
    const RecurrentStates kept(memory(), states);
    const std::vector<Tensor> in = linear_many(ctx, x, inputs_);
    const QkvFront::Qkv qkv = qkv_(ctx, in, batch, kept);
    const Tensor corrected =
        scale_heads(ctx, scale_heads(ctx, qkv.k, *decay_, true), *correction_, false);
    RecurrenceInputs r;
    r.q = l2_norm(ctx, add(ctx, qkv.q, scale(ctx, corrected, -1)));
    r.k = l2_norm(ctx, qkv.k);
    r.p = scale_heads(ctx, r.k, *decay_, true);
    r.v = qkv.v;
    r.g = decay_gate(ctx, in[3], *a_log_, *dt_bias_);
    r.beta = beta_gate(ctx, in[4], beta_scale());
    Tensor o = recurrence(ctx, comba_recurrence(n), r, batch.seq_starts, kept.matrices());
    kept.advance(batch);
    o = gated_norm(ctx, o, as_heads(ctx, in[5], n.value_heads), *o_norm_, eps_, GateAct::kSigmoid);
    return linear(ctx, reshape(ctx, o, {x.size(0), n.values()}), *o_proj_);
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return comba_ref({sizes(), width_, config_.conv > 0, beta_scale(), eps_}, params, x);
  }

 private:
  double beta_scale() const { return config_.neg_eigval ? 2 : 1; }

  CombaConfig config_;
  int64_t width_;
  double eps_;
  QkvFront qkv_;
  std::vector<Parameter*> inputs_;  // weights on x: q, k, v, a, b, g
  Parameter *a_log_, *dt_bias_, *decay_, *correction_, *o_norm_, *o_proj_;
};

}  // namespace

std::unique_ptr<Layer> make_comba(const Options& options, const LayerEnv& env,
                                  ParamBuilder& params) {
  const auto config = read_options<CombaConfig>("comba", options);
  check_conv_taps("comba", config.conv);
  return std::make_unique<Comba>(config, resolve_heads("comba", config.heads, env), env, params);
}

}  // namespace braid
