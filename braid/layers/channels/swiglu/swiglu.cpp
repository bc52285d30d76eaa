#include "braid/base/format.h"
#include "braid/layers/channel.h"
#include "braid/layers/channels/act.h"
#include "braid/layers/channels/default_ffn.h"
#include "braid/layers/channels/feed_forward_ref.h"
#include "braid/ops/bias.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"

namespace braid {
namespace {

struct SwigluConfig {
  int64_t ffn = 0;  // 0: 8/3 of the width, rounded up to a multiple of 64
  std::string act = "silu";
  bool bias = false;
  double gate_scale = 1;  // of the gate before its activation
  double out_scale = 1;
  void visit(OptionVisitor& v) {
    v.field("ffn", ffn, 0);
    v.field("act", act, "silu");
    v.field("bias", bias, false);
    v.field("gate_scale", gate_scale, 1.0);
    v.field("out_scale", out_scale, 1.0);
  }
};

class Swiglu final : public Layer {
 public:
  Swiglu(const SwigluConfig& config, const LayerEnv& env, int64_t ffn, ParamBuilder& params)
      : config_(config),
        act_{.act = read_act("swiglu", config.act, {Act::kSilu, Act::kGeluTanh, Act::kGelu})},
        gate_(params.matrix("gate_proj.weight", ffn, env.width, env.init_std)),
        up_(params.matrix("up_proj.weight", ffn, env.width, env.init_std)),
        down_(params.matrix("down_proj.weight", env.width, ffn, env.out_init_std)) {
    if (!config.bias) return;
    gate_bias_ = &params.vector("gate_proj.bias", {ffn}, Init::zeros());
    up_bias_ = &params.vector("up_proj.bias", {ffn}, Init::zeros());
    down_bias_ = &params.vector("down_proj.bias", {env.width}, Init::zeros());
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch&, States) override {
    const std::vector<Tensor> in = linear_many(ctx, x, {{&gate_, &up_}});
    const Tensor g =
        scale(ctx, biased(ctx, in[0], gate_bias_), static_cast<float>(config_.gate_scale));
    const Tensor u = biased(ctx, in[1], up_bias_);
    return scale(ctx, biased(ctx, linear(ctx, gated(ctx, g, u, act_), down_), down_bias_),
                 static_cast<float>(config_.out_scale));
  }
  Options options() const override { return write_options(config_); }
  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t tokens) const override {
    const int64_t ffn = down_.value.size(1), width = down_.value.size(0);
    const auto bias = [&](const char* name) {
      return config_.bias ? params[name].data() : nullptr;
    };
    const FeedForwardWeights<double> w{width,
                                       ffn,
                                       params["gate_proj.weight"].data(),
                                       params["up_proj.weight"].data(),
                                       params["down_proj.weight"].data(),
                                       act_,
                                       bias("gate_proj.bias"),
                                       bias("up_proj.bias"),
                                       bias("down_proj.bias"),
                                       config_.gate_scale};
    std::vector<double> y(x.size());
    for (int64_t t = 0; t < tokens; ++t)
      feed_forward_ref(w, &x[t * width], config_.out_scale, &y[t * width]);
    return y;
  }

 private:
  SwigluConfig config_;
  Activation act_;
  Parameter& gate_;
  Parameter& up_;
  Parameter& down_;
  Parameter *gate_bias_ = nullptr, *up_bias_ = nullptr, *down_bias_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_swiglu(const Options& options, const LayerEnv& env,
                                   ParamBuilder& params) {
  const auto config = read_options<SwigluConfig>("swiglu", options);
  if (config.ffn < 0) {
    throw Error(ErrorKind::kUsage,
                format("swiglu: ffn={} must be positive, or 0 for 8/3 of the width", config.ffn));
  }
  for (const auto& [key, value] :
       {std::pair("gate_scale", config.gate_scale), {"out_scale", config.out_scale}}) {
    if (!(value > 0))
      throw Error(ErrorKind::kUsage, format("swiglu: {}={} is not positive", key, value));
  }
  const int64_t ffn = config.ffn > 0 ? config.ffn : default_ffn(env.width);
  return std::make_unique<Swiglu>(config, env, ffn, params);
}

}  // namespace braid
