#include "braid/base/format.h"
#include "braid/layers/channel.h"
#include "braid/layers/channels/act.h"
#include "braid/layers/channels/feed_forward_ref.h"
#include "braid/ops/bias.h"
#include "braid/ops/linear.h"

namespace braid {
namespace {

struct MlpConfig {
  int64_t ffn = 0;  // 0: four times the width
  std::string act = "gelu_tanh";
  bool bias = false;
  void visit(OptionVisitor& v) {
    v.field("ffn", ffn, 0);
    v.field("act", act, "gelu_tanh");
    v.field("bias", bias, false);
  }
};

class Mlp final : public Layer {
 public:
  Mlp(const MlpConfig& config, const LayerEnv& env, int64_t ffn, ParamBuilder& params)
      : config_(config),
        act_(read_act("mlp", config.act, {Act::kGeluTanh, Act::kGelu, Act::kRelu2, Act::kSilu})),
        up_(params.matrix("up_proj.weight", ffn, env.width, env.init_std)),
        down_(params.matrix("down_proj.weight", env.width, ffn, env.out_init_std)) {
    if (!config.bias) return;
    up_bias_ = &params.vector("up_proj.bias", {ffn}, Init::zeros());
    down_bias_ = &params.vector("down_proj.bias", {env.width}, Init::zeros());
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch&, States) override {
    const Tensor u = biased(ctx, linear(ctx, x, up_), up_bias_);
    return biased(ctx, linear(ctx, activate(ctx, u, act_), down_), down_bias_);
  }
  Options options() const override { return write_options(config_); }
  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t tokens) const override {
    const int64_t ffn = down_.value.size(1), width = down_.value.size(0);
    FeedForwardWeights<double> w{width, ffn, nullptr, params["up_proj.weight"].data(),
                                 params["down_proj.weight"].data()};
    w.act.act = act_;
    if (config_.bias) {
      w.up_bias = params["up_proj.bias"].data();
      w.down_bias = params["down_proj.bias"].data();
    }
    std::vector<double> y(x.size());
    for (int64_t t = 0; t < tokens; ++t) feed_forward_ref(w, &x[t * width], 1.0, &y[t * width]);
    return y;
  }

 private:
  MlpConfig config_;
  Act act_;
  Parameter& up_;
  Parameter& down_;
  Parameter *up_bias_ = nullptr, *down_bias_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_mlp(const Options& options, const LayerEnv& env, ParamBuilder& params) {
  const auto config = read_options<MlpConfig>("mlp", options);
  if (config.ffn < 0) {
    throw Error(ErrorKind::kUsage,
                format("mlp: ffn={} must be positive, or 0 for 4 times the width", config.ffn));
  }
  return std::make_unique<Mlp>(config, env, config.ffn > 0 ? config.ffn : 4 * env.width, params);
}

}  // namespace braid
