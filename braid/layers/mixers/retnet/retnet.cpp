#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/layers/mixers/retnet/retnet_ref.h"
#include "braid/ops/gated_norm.h"
#include "braid/ops/linear.h"
#include "braid/ops/rope.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

struct RetnetConfig {
  HeadOptions heads;
  void visit(OptionVisitor& v) { heads.visit(v); }
};

class Retnet final : public RecurrentMixer {
 public:
  Retnet(const RetnetConfig& config, const HeadSizes& n, const LayerEnv& env, ParamBuilder& params)
      : RecurrentMixer({n, 0, {}}),
        config_(config),
        width_(env.width),
        eps_(env.norm_eps),
        rope_{kRetnetTheta, n.key_dim, false},
        rates_(retnet_rates(n.value_heads)) {
    const auto input = [&](const char* name, int64_t out) {
      inputs_.push_back(&params.matrix(name, out, env.width, env.init_std));
    };
    input("q_proj.weight", n.keys());
    input("k_proj.weight", n.keys());
    input("v_proj.weight", n.values());
    input("g_proj.weight", n.values());
    norm_ = &params.vector("g_norm_swish_gate.weight", {n.value_dim}, Init::ones());
    o_proj_ = &params.matrix("o_proj.weight", env.width, n.values(), env.out_init_std);
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const HeadSizes& n = sizes();
    const RecurrentStates kept(memory(), states);
    const std::vector<Tensor> in = linear_many(ctx, x, inputs_);
    const Tensor table = rope_table(ctx, rope_, batch.seq_starts, batch.offsets);
    RecurrenceInputs r;
    r.q = rope(ctx, rope_, as_heads(ctx, in[0], n.heads), table);
    r.k = rope(ctx, rope_, as_heads(ctx, in[1], n.heads), table);
    r.v = as_heads(ctx, in[2], n.value_heads);
    r.g = constant_decays(ctx, rates_);
    Tensor o = recurrence(ctx, retnet_recurrence(n), r, batch.seq_starts, kept.matrices());
    kept.advance(batch);
    o = gated_norm(ctx, o, as_heads(ctx, in[3], n.value_heads), *norm_, eps_, GateAct::kSilu);
    return linear(ctx, reshape(ctx, o, {x.size(0), n.values()}), *o_proj_);
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return retnet_ref({sizes(), width_, false, 1, eps_}, params, x);
  }

 private:
  RetnetConfig config_;
  int64_t width_;
  double eps_;
  RopeConfig rope_;
  std::vector<double> rates_;
  std::vector<Parameter*> inputs_;  // weights on x: q, k, v, g
  Parameter *norm_, *o_proj_;
};

}  // namespace

std::unique_ptr<Layer> make_retnet(const Options& options, const LayerEnv& env,
                                   ParamBuilder& params) {
  const auto config = read_options<RetnetConfig>("retnet", options);
  const HeadSizes sizes = resolve_heads("retnet", config.heads, env, 1, 2);
  if (sizes.key_dim % 2 != 0) {
    throw Error(ErrorKind::kUsage,
                format("retnet: head_dim={} is odd, but channels turn in pairs", sizes.key_dim));
  }
  return std::make_unique<Retnet>(config, sizes, env, params);
}

}  // namespace braid
