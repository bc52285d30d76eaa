#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "braid/base/format.h"
#include "braid/layers/channel.h"
#include "braid/ops/add_scaled.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"
#include "braid/ops/token_shift.h"
#include "braid/state/conv_state.h"

namespace braid {
namespace {

struct CmixConfig {
  int64_t ffn = 0;          // 0: four times the width
  bool receptance = false;  // RWKV-6's gate
  void visit(OptionVisitor& v) {
    v.field("ffn", ffn, int64_t{0});
    v.field("receptance", receptance, false);
  }
};

class Cmix final : public Layer {
 public:
  Cmix(const CmixConfig& config, const LayerEnv& env, ParamBuilder& params)
      : config_(config), width_(env.width), ffn_(config.ffn > 0 ? config.ffn : 4 * env.width) {
    // Later layers look less at the token before (RWKV-LM's initialisation: 1 - (c / C)^(r^4), r
    // the part of the stack that is left).
    const double left = 1 - static_cast<double>(env.layer_index) /
                                static_cast<double>(std::max<int64_t>(1, env.depth));
    std::vector<float> mix;
    for (int64_t c = 0; c < width_; ++c) {
      const double at = static_cast<double>(c) / static_cast<double>(width_);
      mix.push_back(static_cast<float>(1 - std::pow(at, std::pow(left, 4))));
    }
    x_k_ = &params.vector("x_k", {width_}, Init::values(mix));
    key_ = &params.matrix("key.weight", ffn_, width_, env.init_std);
    value_ = &params.matrix("value.weight", width_, ffn_, env.out_init_std);
    if (!config.receptance) return;
    x_r_ = &params.vector("x_r", {width_}, Init::values(std::move(mix)));
    receptance_ = &params.matrix("receptance.weight", width_, width_, env.init_std);
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    std::vector<Tensor> last;
    for (LayerState* state : states) last.push_back(as_row(*state).window());
    const Tensor before = token_difference(ctx, x, batch.seq_starts, last);
    for (size_t s = 0; s < states.size(); ++s) {
      as_row(*states[s]).advance(batch.length(static_cast<int64_t>(s)));
    }
    const Tensor h = linear(ctx, add_scaled(ctx, x, before, *x_k_), *key_);
    const Tensor y = linear(ctx, activate(ctx, h, Act::kRelu2), *value_);
    if (receptance_ == nullptr) return y;
    return sigmoid_mul(ctx, y, linear(ctx, add_scaled(ctx, x, before, *x_r_), *receptance_));
  }

  std::unique_ptr<LayerState> make_state(const Context& ctx, const StateOptions&) const override {
    return std::make_unique<ConvState>(ctx, 2, width_);
  }
  size_t state_bytes(int64_t, const StateOptions&) const override {
    return static_cast<size_t>(width_) * sizeof(float);
  }
  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& p, std::span<const double> x,
                                int64_t tokens) const override {
    const auto mixed = [&](int64_t t, const char* mix, int64_t i) {
      const double now = x[static_cast<size_t>(t * width_ + i)];
      const double before = t > 0 ? x[static_cast<size_t>((t - 1) * width_ + i)] : 0;
      return now + (before - now) * p[mix][static_cast<size_t>(i)];
    };
    std::vector<double> y(x.size());
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t f = 0; f < ffn_; ++f) {
        double h = 0;
        for (int64_t i = 0; i < width_; ++i) {
          h += p["key.weight"][static_cast<size_t>(f * width_ + i)] * mixed(t, "x_k", i);
        }
        h = h > 0 ? h * h : 0;
        for (int64_t o = 0; o < width_; ++o) {
          y[static_cast<size_t>(t * width_ + o)] +=
              p["value.weight"][static_cast<size_t>(o * ffn_ + f)] * h;
        }
      }
      for (int64_t o = 0; receptance_ != nullptr && o < width_; ++o) {
        double gate = 0;
        for (int64_t i = 0; i < width_; ++i) {
          gate += p["receptance.weight"][static_cast<size_t>(o * width_ + i)] * mixed(t, "x_r", i);
        }
        y[static_cast<size_t>(t * width_ + o)] /= 1 + std::exp(-gate);
      }
    }
    return y;
  }

 private:
  static ConvState& as_row(LayerState& state) {
    auto* row = dynamic_cast<ConvState*>(&state);
    BRAID_CHECK(row != nullptr);
    return *row;
  }

  CmixConfig config_;
  int64_t width_, ffn_;
  Parameter *x_k_, *key_, *value_, *x_r_ = nullptr, *receptance_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_cmix(const Options& options, const LayerEnv& env,
                                 ParamBuilder& params) {
  const auto config = read_options<CmixConfig>("cmix", options);
  if (config.ffn < 0) {
    throw Error(ErrorKind::kUsage,
                format("cmix: ffn={} must be positive, or 0 for 4 times the width", config.ffn));
  }
  return std::make_unique<Cmix>(config, env, params);
}

}  // namespace braid
