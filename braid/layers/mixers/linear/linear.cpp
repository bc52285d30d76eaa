#include "braid/ops/linear.h"

#include "braid/base/format.h"
#include "braid/layers/mixers/linear/linear_ref.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/ops/norm.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

struct LinearConfig {
  HeadOptions heads;
  std::string norm = "rms";  // rms, sum, none
  std::string map;           // silu, elu, relu, identity; empty: elu with norm=sum, else silu
  void visit(OptionVisitor& v) {
    heads.visit(v);
    v.field("norm", norm, "rms");
    v.field("map", map, "");
  }
};

[[noreturn]] void usage(const std::string& message) {
  throw Error(ErrorKind::kUsage, "linear: " + message);
}

LinearShape resolve(const LinearConfig& c, const LayerEnv& env) {
  LinearShape s;
  s.sizes = resolve_heads("linear", c.heads, env);
  s.width = env.width;
  s.norm_eps = env.norm_eps;
  if (c.norm != "rms" && c.norm != "sum" && c.norm != "none")
    usage(format("norm={} is none of rms, sum, none", c.norm));
  s.norm = c.norm == "rms"   ? LinearNorm::kRms
           : c.norm == "sum" ? LinearNorm::kSum
                             : LinearNorm::kNone;
  const std::string map = !c.map.empty() ? c.map : s.norm == LinearNorm::kSum ? "elu" : "silu";
  if (map != "silu" && map != "elu" && map != "relu" && map != "identity")
    usage(format("map={} is none of silu, elu, relu, identity", map));
  if (s.norm == LinearNorm::kSum && map != "elu")
    usage(format("norm=sum divides by a sum of scores, which map={} lets be zero; elu does not",
                 map));
  s.map = map == "silu"   ? FeatureMap::kSilu
          : map == "elu"  ? FeatureMap::kElu
          : map == "relu" ? FeatureMap::kRelu
                          : FeatureMap::kIdentity;
  return s;
}

// What the recurrence sees: with norm=sum the sum of scores is one more channel of every value.
HeadSizes kept_sizes(const LinearShape& s) {
  HeadSizes n = s.sizes;
  if (s.norm == LinearNorm::kSum) ++n.value_dim;
  return n;
}

class LinearAttention final : public RecurrentMixer {
 public:
  LinearAttention(const LinearConfig& config, const LinearShape& s, const LayerEnv& env,
                  ParamBuilder& params)
      : RecurrentMixer({kept_sizes(s), 0, {}}),
        config_(config),
        shape_(s),
        inputs_{&params.matrix("q_proj.weight", s.sizes.keys(), env.width, env.init_std),
                &params.matrix("k_proj.weight", s.sizes.keys(), env.width, env.init_std),
                &params.matrix("v_proj.weight", s.sizes.values(), env.width, env.init_std)} {
    if (s.norm == LinearNorm::kRms)
      norm_ = &params.vector("norm.weight", {s.sizes.value_dim}, Init::ones());
    o_proj_ = &params.matrix("o_proj.weight", env.width, s.sizes.values(), env.out_init_std);
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const HeadSizes& n = shape_.sizes;
    const RecurrentStates kept(memory(), states);
    const std::vector<Tensor> in = linear_many(ctx, x, inputs_);
    RecurrenceInputs r;
    r.q = as_heads(ctx, feature_map(ctx, in[0], shape_.map), n.heads);
    r.k = as_heads(ctx, feature_map(ctx, in[1], shape_.map), n.heads);
    r.v = as_heads(ctx, in[2], n.value_heads);
    if (shape_.norm == LinearNorm::kSum) r.v = with_ones(ctx, r.v);
    Tensor o = recurrence(ctx, linear_recurrence(shape_), r, batch.seq_starts, kept.matrices());
    kept.advance(batch);
    if (shape_.norm == LinearNorm::kSum) o = over_last(ctx, o, static_cast<float>(kSumEps));
    if (norm_ != nullptr) o = rms_norm(ctx, o, *norm_, shape_.norm_eps);
    return linear(ctx, reshape(ctx, o, {x.size(0), n.values()}), *o_proj_);
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return linear_ref(shape_, params, x);
  }

 private:
  LinearConfig config_;
  LinearShape shape_;
  std::vector<Parameter*> inputs_;  // weights on x: q, k, v
  Parameter *norm_ = nullptr, *o_proj_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_linear(const Options& options, const LayerEnv& env,
                                   ParamBuilder& params) {
  const auto config = read_options<LinearConfig>("linear", options);
  return std::make_unique<LinearAttention>(config, resolve(config, env), env, params);
}

}  // namespace braid
