#include "braid/layers/mixers/shortconv/shortconv_ref.h"

#include "braid/base/format.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/ops/bias.h"
#include "braid/ops/conv.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"
#include "braid/ops/view.h"
#include "braid/state/conv_state.h"

namespace braid {
namespace {

struct ShortConvConfig {
  int64_t conv = 3;   // taps
  bool bias = false;  // of both projections and the filter
  void visit(OptionVisitor& v) {
    v.field("conv", conv, int64_t{3});
    v.field("bias", bias, false);
  }
};

class ShortConv final : public Layer {
 public:
  ShortConv(const ShortConvConfig& config, const LayerEnv& env, ParamBuilder& params)
      : config_(config),
        width_(env.width),
        in_proj_(params.matrix("in_proj.weight", 3 * env.width, env.width, env.init_std)),
        filter_(*conv_filter(params, "conv.weight", env.width, config.conv)),
        out_proj_(params.matrix("out_proj.weight", env.width, env.width, env.out_init_std)) {
    in_proj_.row_splits = {env.width, env.width, env.width};
    if (!config.bias) return;
    in_bias_ = &params.vector("in_proj.bias", {3 * env.width}, Init::zeros());
    conv_bias_ = &params.vector("conv.bias", {env.width}, Init::zeros());
    out_bias_ = &params.vector("out_proj.bias", {env.width}, Init::zeros());
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const Tensor bcu = biased(ctx, linear(ctx, x, in_proj_), in_bias_);
    const std::vector<Tensor> part = split_columns(ctx, bcu, {width_, width_, width_});
    std::vector<Tensor> windows;
    for (LayerState* state : states) windows.push_back(as_window(*state).window());
    const Tensor y = short_conv(ctx, mul(ctx, part[0], part[2]), filter_, batch.seq_starts, false,
                                windows, conv_bias_);
    for (size_t s = 0; s < states.size(); ++s) {
      as_window(*states[s]).advance(batch.length(static_cast<int64_t>(s)));
    }
    return biased(ctx, linear(ctx, mul(ctx, y, part[1]), out_proj_), out_bias_);
  }

  std::unique_ptr<LayerState> make_state(const Context& ctx, const StateOptions&) const override {
    return std::make_unique<ConvState>(ctx, config_.conv, width_);
  }
  size_t state_bytes(int64_t, const StateOptions&) const override {
    return static_cast<size_t>((config_.conv - 1) * width_) * sizeof(float);
  }
  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return shortconv_ref({width_, config_.bias}, params, x);
  }

 private:
  static ConvState& as_window(LayerState& state) {
    auto* window = dynamic_cast<ConvState*>(&state);
    BRAID_CHECK(window != nullptr);
    return *window;
  }

  ShortConvConfig config_;
  int64_t width_;
  Parameter &in_proj_, &filter_, &out_proj_;
  Parameter *in_bias_ = nullptr, *conv_bias_ = nullptr, *out_bias_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_shortconv(const Options& options, const LayerEnv& env,
                                      ParamBuilder& params) {
  const auto config = read_options<ShortConvConfig>("shortconv", options);
  check_conv_taps("shortconv", config.conv);
  if (config.conv == 0) throw Error(ErrorKind::kUsage, "shortconv: conv=0 leaves nothing of it");
  return std::make_unique<ShortConv>(config, env, params);
}

}  // namespace braid
