#include "braid/layers/mixers/mamba/mamba_ref.h"

#include <cmath>

#include "braid/base/format.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/ops/bias.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"
#include "braid/ops/norm.h"
#include "braid/ops/selective_scan.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

struct MambaConfig {
  int64_t state = 16;   // N
  int64_t conv = 4;     // taps, 0 = none
  int64_t expand = 2;   // inner channels = expand * width
  int64_t inner = 0;    // inner channels; 0: by expand
  int64_t dt_rank = 0;  // 0: width / 16, rounded up
  bool conv_bias = true;
  bool bias = false;       // of in_proj and out_proj
  bool norms = false;      // RMSNorms of dt, B and C (Jamba)
  bool norm_gains = true;  // false: without gains (Falcon-Mamba)
  double norm_eps = 0;     // 0: the model's
  std::string as;          // publishes the scan's output
  void visit(OptionVisitor& v) {
    v.field("state", state, int64_t{16});
    v.field("conv", conv, int64_t{4});
    v.field("expand", expand, int64_t{2});
    v.field("inner", inner, int64_t{0});
    v.field("dt_rank", dt_rank, int64_t{0});
    v.field("conv_bias", conv_bias, true);
    v.field("bias", bias, false);
    v.field("norms", norms, false);
    v.field("norm_gains", norm_gains, true);
    v.field("norm_eps", norm_eps, 0.0);
    v.field("as", as, std::string());
  }
};

MambaShape resolve(const MambaConfig& c, const LayerEnv& env) {
  const auto positive = [](const char* key, int64_t value) {
    if (value < 1)
      throw Error(ErrorKind::kUsage, format("mamba: {}={} is not positive", key, value));
  };
  positive("state", c.state);
  if (c.state > 256) {
    throw Error(ErrorKind::kUsage, format("mamba: state={} is more than 256", c.state));
  }
  positive("expand", c.expand);
  if (c.inner < 0 || c.dt_rank < 0) {
    throw Error(ErrorKind::kUsage,
                format("mamba: inner={} and dt_rank={} must not be negative", c.inner, c.dt_rank));
  }
  if (!(c.norm_eps >= 0)) {
    throw Error(ErrorKind::kUsage, format("mamba: norm_eps={} is negative", c.norm_eps));
  }
  if (!c.norms && (!c.norm_gains || c.norm_eps != 0)) {
    throw Error(ErrorKind::kUsage,
                format("mamba: norm_gains={} and norm_eps={} say nothing with norms=false",
                       c.norm_gains, c.norm_eps));
  }
  MambaShape s;
  s.width = env.width;
  s.inner = c.inner > 0 ? c.inner : c.expand * env.width;
  s.states = c.state;
  s.dt_rank = c.dt_rank > 0 ? c.dt_rank : (env.width + 15) / 16;
  s.conv = c.conv > 0;
  s.conv_bias = c.conv > 0 && c.conv_bias;
  s.bias = c.bias;
  s.norms = c.norms;
  s.norm_gains = c.norm_gains;
  s.norm_eps = c.norm_eps > 0 ? c.norm_eps : env.norm_eps;
  return s;
}

class Mamba final : public RecurrentMixer {
 public:
  Mamba(MambaConfig config, const MambaShape& s, const LayerEnv& env, ParamBuilder& params)
      : RecurrentMixer({{1, 1, s.states, s.inner}, config.conv, {s.inner}}),
        config_(std::move(config)),
        shape_(s),
        in_proj_(params.matrix("in_proj.weight", 2 * s.inner, s.width, env.init_std)) {
    in_proj_.row_splits = {s.inner, s.inner};
    if (s.bias) in_bias_ = &params.vector("in_proj.bias", {2 * s.inner}, Init::zeros());
    conv_ = conv_filter(params, "conv1d.weight", s.inner, config_.conv);
    if (s.conv_bias) conv_bias_ = &params.vector("conv1d.bias", {s.inner}, Init::zeros());
    x_proj_ = &params.gate_matrix("x_proj.weight", s.dt_rank + 2 * s.states, s.inner, env.init_std);
    x_proj_->row_splits = {s.dt_rank, s.states, s.states};
    if (s.norms && s.norm_gains) {
      dt_norm_ = &params.vector("dt_layernorm.weight", {s.dt_rank}, Init::ones());
      b_norm_ = &params.vector("b_layernorm.weight", {s.states}, Init::ones());
      c_norm_ = &params.vector("c_layernorm.weight", {s.states}, Init::ones());
    }
    const double bound = 1.0 / std::sqrt(static_cast<double>(s.dt_rank));
    dt_proj_ = &params.add("dt_proj.weight", ParamRole::kMatrix, {s.inner, s.dt_rank},
                           Init::uniform(-bound, bound));
    dt_proj_->keep_f32 = true;
    scan_.dt_bias = &params.vector("dt_proj.bias", {s.inner}, Init::dt_bias());
    scan_.a_log = &params.vector("A_log", {s.inner, s.states}, Init::log_of_column(s.states));
    scan_.skip = &params.vector("D", {s.inner}, Init::ones());
    out_proj_ = &params.matrix("out_proj.weight", s.width, s.inner, env.out_init_std);
    if (s.bias) out_bias_ = &params.vector("out_proj.bias", {s.width}, Init::zeros());
    if (!config_.as.empty() && env.links != nullptr) {
      env.links->declare(config_.as, {"memory", {s.inner}});
    }
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const MambaShape& s = shape_;
    const RecurrentStates kept(memory(), states);
    const std::vector<Tensor> xz =
        split_columns(ctx, biased(ctx, linear(ctx, x, in_proj_), in_bias_), {s.inner, s.inner});
    SelectiveScanInputs in;
    in.x = conv_silu(ctx, xz[0], conv_, batch, kept.windows(0), conv_bias_);
    const std::vector<Tensor> dbc =
        split_columns(ctx, linear(ctx, in.x, *x_proj_), {s.dt_rank, s.states, s.states});
    in.raw = linear(ctx, normed(ctx, dbc[0], dt_norm_), *dt_proj_);
    in.b = normed(ctx, dbc[1], b_norm_);
    in.c = normed(ctx, dbc[2], c_norm_);
    const Tensor y = selective_scan(ctx, in, scan_, batch.seq_starts, kept.matrices());
    kept.advance(batch);
    if (!config_.as.empty() && batch.links != nullptr)
      batch.links->put(config_.as, {.tensors = {y}, .states = {}, .keys = {}});
    return biased(ctx, linear(ctx, gated(ctx, xz[1], y), *out_proj_), out_bias_);
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    std::vector<double> memory;
    std::vector<double> y = mamba_ref(shape_, params, x, &memory);
    if (!config_.as.empty() && params.links != nullptr) {
      params.links->put(config_.as, {std::move(memory)});
    }
    return y;
  }

 private:
  Tensor normed(const Context& ctx, const Tensor& x, Parameter* gain) const {
    if (!shape_.norms) return x;
    return gain == nullptr ? rms_norm(ctx, x, shape_.norm_eps)
                           : rms_norm(ctx, x, *gain, shape_.norm_eps);
  }

  MambaConfig config_;
  MambaShape shape_;
  Parameter& in_proj_;
  Parameter *in_bias_ = nullptr, *conv_ = nullptr, *conv_bias_ = nullptr, *x_proj_ = nullptr;
  Parameter *dt_norm_ = nullptr, *b_norm_ = nullptr, *c_norm_ = nullptr, *dt_proj_ = nullptr;
  SelectiveScanParams scan_{};
  Parameter *out_proj_ = nullptr, *out_bias_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_mamba(const Options& options, const LayerEnv& env,
                                  ParamBuilder& params) {
  auto config = read_options<MambaConfig>("mamba", options);
  check_conv_taps("mamba", config.conv);
  const MambaShape shape = resolve(config, env);
  return std::make_unique<Mamba>(std::move(config), shape, env, params);
}

}  // namespace braid
