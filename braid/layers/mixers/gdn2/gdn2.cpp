#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/layers/mixers/gdn2/gdn2_ref.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/ops/bias.h"
#include "braid/ops/decay_gate.h"
#include "braid/ops/gated_norm.h"
#include "braid/ops/l2_norm.h"
#include "braid/ops/linear.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

struct Gdn2Config {
  HeadOptions heads;
  int64_t conv = 4;         // taps of the short convolutions, 0 = none
  int64_t gate_rank = 0;    // of the decay's and the output gate's projections; 0 = value_dim
  bool neg_eigval = false;  // erase gates in (0, 2)
  void visit(OptionVisitor& v) {
    heads.visit(v);
    v.field("conv", conv, int64_t{4});
    v.field("gate_rank", gate_rank, int64_t{0});
    v.field("neg_eigval", neg_eigval, false);
  }
};

class Gdn2 final : public RecurrentMixer {
 public:
  Gdn2(const Gdn2Config& config, const HeadSizes& n, const LayerEnv& env, ParamBuilder& params)
      : RecurrentMixer({n, config.conv, QkvFront::channels(n)}),
        config_(config),
        width_(env.width),
        eps_(env.norm_eps),
        qkv_(params, env, n, config.conv),
        inputs_(qkv_.projections()) {
    const int64_t rank = config.gate_rank > 0 ? config.gate_rank : n.value_dim;
    const auto gate = [&](const char* name, int64_t out, int64_t in) {
      return &params.gate_matrix(name, out, in, env.init_std);
    };
    inputs_.push_back(gate("f_proj.0.weight", rank, env.width));
    inputs_.push_back(gate("b_proj.weight", n.keys(), env.width));
    inputs_.push_back(gate("w_proj.weight", n.values(), env.width));
    inputs_.push_back(gate("g_proj.0.weight", rank, env.width));
    f_up_ = gate("f_proj.1.weight", n.keys(), rank);
    g_up_ = gate("g_proj.1.weight", n.values(), rank);
    g_bias_ = &params.vector("g_proj.1.bias", {n.values()}, Init::zeros());
    a_log_ = &params.vector("A_log", {n.heads}, Init::log_of_uniform(1, 16));
    dt_bias_ = &params.vector("dt_bias", {n.keys()}, Init::dt_bias());
    o_norm_ = &params.vector("o_norm.weight", {n.value_dim}, Init::ones());
    o_proj_ = &params.matrix("o_proj.weight", env.width, n.values(), env.out_init_std);
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
    r.g = decay_gate(ctx, as_heads(ctx, linear(ctx, in[3], *f_up_), n.heads), *a_log_, *dt_bias_);
    r.b = beta_gate(ctx, as_heads(ctx, in[4], n.heads), erase_scale());
    r.w = beta_gate(ctx, as_heads(ctx, in[5], n.value_heads));
    Tensor o = recurrence(ctx, gdn2_recurrence(n), r, batch.seq_starts, kept.matrices());
    kept.advance(batch);
    const Tensor z = add_bias(ctx, linear(ctx, in[6], *g_up_), *g_bias_);
    o = gated_norm(ctx, o, as_heads(ctx, z, n.value_heads), *o_norm_, eps_, GateAct::kSigmoid);
    return linear(ctx, reshape(ctx, o, {x.size(0), n.values()}), *o_proj_);
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return gdn2_ref({sizes(), width_, config_.conv > 0, erase_scale(), eps_}, params, x);
  }

 private:
  double erase_scale() const { return config_.neg_eigval ? 2 : 1; }

  Gdn2Config config_;
  int64_t width_;
  double eps_;
  QkvFront qkv_;
  std::vector<Parameter*> inputs_;  // weights on x: q, k, v, f_proj.0, b, w, g_proj.0
  Parameter *f_up_, *g_up_, *g_bias_, *a_log_, *dt_bias_, *o_norm_, *o_proj_;
};

}  // namespace

std::unique_ptr<Layer> make_gdn2(const Options& options, const LayerEnv& env,
                                 ParamBuilder& params) {
  const auto config = read_options<Gdn2Config>("gdn2", options);
  check_conv_taps("gdn2", config.conv);
  if (config.gate_rank < 0)
    throw Error(ErrorKind::kUsage, format("gdn2: gate_rank={} is not positive", config.gate_rank));
  return std::make_unique<Gdn2>(config, resolve_heads("gdn2", config.heads, env), env, params);
}

}  // namespace braid
