#include "braid/ops/linear.h"

#include "braid/layers/mixers/linear/linear_ref.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/norm.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

struct LinearConfig {
  HeadOptions heads;
  void visit(OptionVisitor& v) { heads.visit(v); }
};

class LinearAttention final : public RecurrentMixer {
 public:
  LinearAttention(const LinearConfig& config, const HeadSizes& n, const LayerEnv& env,
                  ParamBuilder& params)
      : RecurrentMixer({n, 0, {}}),
        config_(config),
        width_(env.width),
        eps_(env.norm_eps),
        inputs_{&params.matrix("q_proj.weight", n.keys(), env.width, env.init_std),
                &params.matrix("k_proj.weight", n.keys(), env.width, env.init_std),
                &params.matrix("v_proj.weight", n.values(), env.width, env.init_std)},
        norm_(params.vector("norm.weight", {n.value_dim}, Init::ones())),
        o_proj_(params.matrix("o_proj.weight", env.width, n.values(), env.out_init_std)) {}

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const HeadSizes& n = sizes();
    const RecurrentStates kept(memory(), states);
    const std::vector<Tensor> in = linear_many(ctx, x, inputs_);
    RecurrenceInputs r;
    r.q = as_heads(ctx, silu(ctx, in[0]), n.heads);
    r.k = as_heads(ctx, silu(ctx, in[1]), n.heads);
    r.v = as_heads(ctx, in[2], n.value_heads);
    Tensor o = recurrence(ctx, linear_recurrence(n), r, batch.seq_starts, kept.matrices());
    kept.advance(batch);
    o = rms_norm(ctx, o, norm_, eps_);
    return linear(ctx, reshape(ctx, o, {x.size(0), n.values()}), o_proj_);
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return linear_ref({sizes(), width_, false, 1, eps_}, params, x);
  }

 private:
  LinearConfig config_;
  int64_t width_;
  double eps_;
  std::vector<Parameter*> inputs_;  // weights on x: q, k, v
  Parameter &norm_, &o_proj_;
};

}  // namespace

std::unique_ptr<Layer> make_linear(const Options& options, const LayerEnv& env,
                                   ParamBuilder& params) {
  const auto config = read_options<LinearConfig>("linear", options);
  return std::make_unique<LinearAttention>(config, resolve_heads("linear", config.heads, env), env,
                                           params);
}

}  // namespace braid
