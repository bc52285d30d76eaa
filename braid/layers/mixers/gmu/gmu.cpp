#include "braid/base/format.h"
#include "braid/layers/mixer.h"
#include "braid/layers/mixers/mixer_ref.h"
#include "braid/ops/bias.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"

namespace braid {
namespace {

struct GmuConfig {
  std::string of;     // the name of the memory
  bool bias = false;  // of both projections
  void visit(OptionVisitor& v) {
    v.field("of", of, std::string());
    v.field("bias", bias, false);
  }
};

class Gmu final : public Layer {
 public:
  Gmu(GmuConfig config, int64_t channels, const LayerEnv& env, ParamBuilder& params)
      : config_(std::move(config)),
        width_(env.width),
        channels_(channels),
        in_proj_(params.matrix("in_proj.weight", channels, env.width, env.init_std)),
        out_proj_(params.matrix("out_proj.weight", env.width, channels, env.out_init_std)) {
    if (!config_.bias) return;
    in_bias_ = &params.vector("in_proj.bias", {channels}, Init::zeros());
    out_bias_ = &params.vector("out_proj.bias", {env.width}, Init::zeros());
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States) override {
    const Tensor& memory = batch.links->get(config_.of).tensors[0];
    const Tensor gate = biased(ctx, linear(ctx, x, in_proj_), in_bias_);
    return biased(ctx, linear(ctx, gated(ctx, gate, memory), out_proj_), out_bias_);
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& p, std::span<const double> x,
                                int64_t) const override {
    std::vector<double> gate = ref::linear<double>(x, p["in_proj.weight"], width_);
    if (config_.bias) gate = ref::add_bias(gate, p["in_proj.bias"]);
    const std::vector<double> y =
        ref::product(ref::map(gate, ref::silu<double>), p.links->get(config_.of)[0]);
    const std::vector<double> out = ref::linear<double>(y, p["out_proj.weight"], channels_);
    return config_.bias ? ref::add_bias(out, p["out_proj.bias"]) : out;
  }

 private:
  GmuConfig config_;
  int64_t width_, channels_;
  Parameter &in_proj_, &out_proj_;
  Parameter *in_bias_ = nullptr, *out_bias_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_gmu(const Options& options, const LayerEnv& env, ParamBuilder& params) {
  auto config = read_options<GmuConfig>("gmu", options);
  if (config.of.empty()) {
    throw Error(ErrorKind::kUsage,
                "gmu: of= must name the memory it gates, as in mamba{as=m}, swiglu, gmu{of=m}");
  }
  const int64_t channels = find_link(env.links, "gmu", config.of, "memory").sizes[0];
  return std::make_unique<Gmu>(std::move(config), channels, env, params);
}

}  // namespace braid
