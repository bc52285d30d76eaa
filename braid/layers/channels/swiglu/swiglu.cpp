#include "braid/base/format.h"
#include "braid/layers/channel.h"
#include "braid/layers/channels/swiglu_ref.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"

namespace braid {
namespace {

struct SwigluConfig {
  int64_t ffn = 0;  // 0: 8/3 of the width, rounded up to a multiple of 64
  void visit(OptionVisitor& v) { v.field("ffn", ffn, 0); }
};

class Swiglu final : public Layer {
 public:
  Swiglu(const SwigluConfig& config, const LayerEnv& env, int64_t ffn, ParamBuilder& params)
      : config_(config),
        gate_(params.matrix("gate_proj.weight", ffn, env.width, env.init_std)),
        up_(params.matrix("up_proj.weight", ffn, env.width, env.init_std)),
        down_(params.matrix("down_proj.weight", env.width, ffn, env.out_init_std)) {}

  Tensor forward(const Context& ctx, const Tensor& x, const Batch&, States) override {
    return linear(ctx, silu_mul(ctx, linear(ctx, x, gate_), linear(ctx, x, up_)), down_);
  }
  Options options() const override { return write_options(config_); }
  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t tokens) const override {
    const int64_t ffn = down_.value.size(1), width = down_.value.size(0);
    const SwigluWeights<double> w{width, ffn, params["gate_proj.weight"].data(),
                                  params["up_proj.weight"].data(),
                                  params["down_proj.weight"].data()};
    std::vector<double> y(x.size());
    for (int64_t t = 0; t < tokens; ++t) swiglu_ref(w, &x[t * width], 1.0, &y[t * width]);
    return y;
  }

 private:
  SwigluConfig config_;
  Parameter& gate_;
  Parameter& up_;
  Parameter& down_;
};

}  // namespace

std::unique_ptr<Layer> make_swiglu(const Options& options, const LayerEnv& env,
                                   ParamBuilder& params) {
  const auto config = read_options<SwigluConfig>("swiglu", options);
  if (config.ffn < 0) {
    throw Error(ErrorKind::kUsage,
                format("swiglu: ffn={} must be positive, or 0 for 8/3 of the width", config.ffn));
  }
  const int64_t ffn = config.ffn > 0 ? config.ffn : ((8 * env.width + 2) / 3 + 63) / 64 * 64;
  return std::make_unique<Swiglu>(config, env, ffn, params);
}

}  // namespace braid
