#include "braid/layers/mixers/gdn/gdn_ref.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/ops/decay_gate.h"
#include "braid/ops/gated_norm.h"
#include "braid/ops/l2_norm.h"
#include "braid/ops/linear.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

struct GdnConfig {
  HeadOptions heads;
  int64_t conv = 4;         // taps of the short convolution, 0 = none
  bool neg_eigval = false;  // beta in (0, 2)
  void visit(OptionVisitor& v) {
    heads.visit(v);
    v.field("conv", conv, int64_t{4});
    v.field("neg_eigval", neg_eigval, false);
  }
};

class Gdn final : public RecurrentMixer {
 public:
  Gdn(const GdnConfig& config, const HeadSizes& n, const LayerEnv& env, ParamBuilder& params)
      : RecurrentMixer({n, config.conv, {2 * n.keys() + n.values()}}),
        config_(config),
        width_(env.width),
        eps_(env.norm_eps) {
    const auto input = [&](const char* name, int64_t out) {
      Parameter& p = params.matrix(name, out, env.width, env.init_std);
      inputs_.push_back(&p);
      return &p;
    };
    input("in_proj_qkv.weight", 2 * n.keys() + n.values())->row_splits = {n.keys(), n.keys(),
                                                                          n.values()};
    input("in_proj_z.weight", n.values());
    for (const char* name : {"in_proj_b.weight", "in_proj_a.weight"}) {
      inputs_.push_back(&params.gate_matrix(name, n.value_heads, env.width, env.init_std));
    }
    conv_ = conv_filter(params, "conv1d.weight", 2 * n.keys() + n.values(), config.conv);
    a_log_ = &params.vector("A_log", {n.value_heads}, Init::log_of_uniform(0, 16));
    dt_bias_ = &params.vector("dt_bias", {n.value_heads}, Init::dt_bias());
    norm_ = &params.vector("norm.weight", {n.value_dim}, Init::ones());
    out_proj_ = &params.matrix("out_proj.weight", env.width, n.values(), env.out_init_std);
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const HeadSizes& n = sizes();
    const RecurrentStates kept(memory(), states);
    const std::vector<Tensor> in = linear_many(ctx, x, inputs_);
    const Tensor qkv = conv_silu(ctx, in[0], conv_, batch, kept.windows(0));
    const std::vector<Tensor> part = split_columns(ctx, qkv, {n.keys(), n.keys(), n.values()});
    RecurrenceInputs r;
    r.q = l2_norm(ctx, as_heads(ctx, part[0], n.heads));
    r.k = l2_norm(ctx, as_heads(ctx, part[1], n.heads));
    r.v = as_heads(ctx, part[2], n.value_heads);
    r.g = decay_gate(ctx, in[3], *a_log_, *dt_bias_);
    r.beta = beta_gate(ctx, in[2], beta_scale());
    Tensor o = recurrence(ctx, gdn_recurrence(n), r, batch.seq_starts, kept.matrices());
    kept.advance(batch);
    o = gated_norm(ctx, o, as_heads(ctx, in[1], n.value_heads), *norm_, eps_, GateAct::kSilu);
    return linear(ctx, reshape(ctx, o, {x.size(0), n.values()}), *out_proj_);
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return gdn_ref({sizes(), width_, config_.conv > 0, beta_scale(), eps_}, params, x);
  }

 private:
  double beta_scale() const { return config_.neg_eigval ? 2 : 1; }

  GdnConfig config_;
  int64_t width_;
  double eps_;
  std::vector<Parameter*> inputs_;  // of x: qkv, z, b, a
  Parameter *conv_, *a_log_, *dt_bias_, *norm_, *out_proj_;
};

}  // namespace

std::unique_ptr<Layer> make_gdn(const Options& options, const LayerEnv& env, ParamBuilder& params) {
  const auto config = read_options<GdnConfig>("gdn", options);
  check_conv_taps("gdn", config.conv);
  return std::make_unique<Gdn>(config, resolve_heads("gdn", config.heads, env), env, params);
}

}  // namespace braid
