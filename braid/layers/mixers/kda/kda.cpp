#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/layers/mixers/kda/kda_ref.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/ops/decay_gate.h"
#include "braid/ops/gated_norm.h"
#include "braid/ops/l2_norm.h"
#include "braid/ops/linear.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

struct KdaConfig {
  HeadOptions heads;
  int64_t conv = 4;             // taps of the short convolutions, 0 = none
  int64_t gate_rank = 0;        // of the decay's and the output gate's projections; 0 = value_dim
  double gate_lower_bound = 0;  // < 0: the bounded decay gate
  bool full_rank_gate = false;  // one g_proj in place of g_a_proj, g_b_proj
  bool neg_eigval = false;      // beta in (0, 2)
  void visit(OptionVisitor& v) {
    heads.visit(v);
    v.field("conv", conv, int64_t{4});
    v.field("gate_rank", gate_rank, int64_t{0});
    v.field("gate_lower_bound", gate_lower_bound, 0.0);
    v.field("full_rank_gate", full_rank_gate, false);
    v.field("neg_eigval", neg_eigval, false);
  }
};

void check(const KdaConfig& c) {
  check_conv_taps("kda", c.conv);
  if (c.gate_rank < 0) {
    throw Error(ErrorKind::kUsage, format("kda: gate_rank={} is not positive", c.gate_rank));
  }
  if (c.gate_lower_bound > 0) {
    throw Error(ErrorKind::kUsage,
                format("kda: gate_lower_bound={} is a log-decay per token and must be negative "
                       "(-5 is usual), or 0 for the unbounded gate",
                       c.gate_lower_bound));
  }
}

class Kda final : public RecurrentMixer {
 public:
  Kda(const KdaConfig& config, const HeadSizes& n, const LayerEnv& env, ParamBuilder& params)
      : RecurrentMixer({n, config.conv, QkvFront::channels(n)}),
        config_(config),
        width_(env.width),
        eps_(env.norm_eps),
        qkv_(params, env, n, config.conv),
        inputs_(qkv_.projections()) {
    const int64_t rank = config.gate_rank > 0 ? config.gate_rank : n.value_dim;
    const int64_t decays = n.value_heads * n.key_dim;
    const auto gate = [&](const char* name, int64_t out, int64_t in) {
      return &params.gate_matrix(name, out, in, env.init_std);
    };
    const auto input = [&](const char* name, int64_t out) {
      inputs_.push_back(gate(name, out, env.width));
    };
    const Init a_log = config.gate_lower_bound < 0 ? Init::zeros() : Init::log_of_uniform(1, 16);
    a_log_ = &params.vector("A_log", {n.value_heads}, a_log);
    input("f_a_proj.weight", rank);
    f_b_ = gate("f_b_proj.weight", decays, rank);
    dt_bias_ = &params.vector("dt_bias", {decays}, Init::dt_bias());
    input("b_proj.weight", n.value_heads);
    if (config.full_rank_gate) {
      inputs_.push_back(&params.matrix("g_proj.weight", n.values(), env.width, env.init_std));
    } else {
      input("g_a_proj.weight", rank);
      g_b_ = gate("g_b_proj.weight", n.values(), rank);
    }
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
    r.g = decay_gate(ctx, as_heads(ctx, linear(ctx, in[3], *f_b_), n.value_heads), *a_log_,
                     *dt_bias_, config_.gate_lower_bound);
    r.beta = beta_gate(ctx, in[4], beta_scale());
    const Tensor z = config_.full_rank_gate ? in[5] : linear(ctx, in[5], *g_b_);
    Tensor o = recurrence(ctx, kda_recurrence(n), r, batch.seq_starts, kept.matrices());
    kept.advance(batch);
    o = gated_norm(ctx, o, as_heads(ctx, z, n.value_heads), *o_norm_, eps_, GateAct::kSigmoid);
    return linear(ctx, reshape(ctx, o, {x.size(0), n.values()}), *o_proj_);
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    const KdaShape shape{
        sizes(),      width_, config_.conv > 0, config_.full_rank_gate, config_.gate_lower_bound,
        beta_scale(), eps_};
    return kda_ref(shape, params, x);
  }

 private:
  double beta_scale() const { return config_.neg_eigval ? 2 : 1; }

  KdaConfig config_;
  int64_t width_;
  double eps_;
  QkvFront qkv_;
  std::vector<Parameter*> inputs_;  // weights on x: q, k, v, f_a, b, g_a or g
  Parameter *a_log_, *f_b_, *dt_bias_, *g_b_ = nullptr;
  Parameter *o_norm_, *o_proj_;
};

}  // namespace

std::unique_ptr<Layer> make_kda(const Options& options, const LayerEnv& env, ParamBuilder& params) {
  const auto config = read_options<KdaConfig>("kda", options);
  check(config);
  return std::make_unique<Kda>(config, resolve_heads("kda", config.heads, env), env, params);
}

}  // namespace braid
