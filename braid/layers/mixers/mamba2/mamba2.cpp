#include "braid/layers/mixers/mamba2/mamba2_ref.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/ops/add_scaled.h"
#include "braid/ops/bias.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"
#include "braid/ops/norm.h"
#include "braid/ops/time_step.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

struct Mamba2Config {
  int64_t state = 128;    // N
  int64_t head_dim = 64;  // P
  int64_t heads = 0;      // 0: expand * width / head_dim
  int64_t groups = 1;     // of B and C
  int64_t expand = 2;
  int64_t conv = 4;  // taps, 0 = none
  bool conv_bias = true;
  bool bias = false;           // of in_proj and out_proj
  std::string norm = "gated";  // gated, before, none
  int64_t norm_groups = 0;     // 0: groups
  double norm_eps = 0;         // 0: the model's
  double dt_min = 0;           // limits of the step sizes; dt_max 0 = none
  double dt_max = 0;
  bool channel_skip = false;  // D per channel
  std::string in_scales;      // of z, x, B, C, dt as projected: five numbers and ':'
  double out_scale = 1;
  std::string as;
  void visit(OptionVisitor& v) {
    v.field("state", state, int64_t{128});
    v.field("head_dim", head_dim, int64_t{64});
    v.field("heads", heads, int64_t{0});
    v.field("groups", groups, int64_t{1});
    v.field("expand", expand, int64_t{2});
    v.field("conv", conv, int64_t{4});
    v.field("conv_bias", conv_bias, true);
    v.field("bias", bias, false);
    v.field("norm", norm, std::string("gated"));
    v.field("norm_groups", norm_groups, int64_t{0});
    v.field("norm_eps", norm_eps, 0.0);
    v.field("dt_min", dt_min, 0.0);
    v.field("dt_max", dt_max, 0.0);
    v.field("channel_skip", channel_skip, false);
    v.field("in_scales", in_scales, std::string());
    v.field("out_scale", out_scale, 1.0);
    v.field("as", as, std::string());
  }
};

[[noreturn]] void usage(const std::string& message) {
  throw Error(ErrorKind::kUsage, "mamba2: " + message);
}

// "a:b:c:d:e"
std::vector<double> parse_in_scales(const std::string& text) {
  std::vector<double> out;
  for (const std::string_view number : split(text, ':')) {
    const auto value = parse_real(number);
    if (!value || !(*value > 0)) usage(format("in_scales={} are not positive numbers", text));
    out.push_back(*value);
  }
  if (out.size() != 5)
    usage(format("in_scales={} has {} numbers; five, of z:x:B:C:dt", text, out.size()));
  return out;
}

Mamba2Shape resolve(const Mamba2Config& c, const LayerEnv& env) {
  for (const auto& [key, value] : {std::pair("state", c.state),
                                   {"head_dim", c.head_dim},
                                   {"groups", c.groups},
                                   {"expand", c.expand}}) {
    if (value < 1) usage(format("{}={} is not positive", key, value));
  }
  if (c.heads < 0) usage(format("heads={} is negative", c.heads));
  const int64_t inner = c.expand * env.width;
  if (c.heads == 0 && inner % c.head_dim != 0) {
    usage(format("head_dim={} does not divide the {} inner channels (expand={} x width={})",
                 c.head_dim, inner, c.expand, env.width));
  }
  Mamba2Shape s;
  s.width = env.width;
  s.sizes = {c.groups, c.heads > 0 ? c.heads : inner / c.head_dim, c.state, c.head_dim};
  if (s.sizes.value_heads % c.groups != 0) {
    usage(format("groups={} does not divide heads={}", c.groups, s.sizes.value_heads));
  }
  s.conv = c.conv > 0;
  s.conv_bias = s.conv && c.conv_bias;
  s.bias = c.bias;
  s.dt_min = c.dt_min;
  s.dt_max = c.dt_max > 0 ? c.dt_max : std::numeric_limits<double>::infinity();
  if (c.dt_min < 0 || s.dt_min >= s.dt_max) {
    usage(format("step sizes from dt_min={} to dt_max={}", c.dt_min, c.dt_max));
  }
  if (c.norm != "gated" && c.norm != "before" && c.norm != "none") {
    usage(format("norm={} is none of gated, before, none", c.norm));
  }
  s.norm = c.norm == "gated"    ? Mamba2Norm::kAfterGate
           : c.norm == "before" ? Mamba2Norm::kBeforeGate
                                : Mamba2Norm::kNone;
  s.norm_groups = c.norm_groups > 0 ? c.norm_groups : c.groups;
  if (c.norm_groups < 0 || s.sizes.values() % s.norm_groups != 0) {
    usage(format("norm_groups={} does not divide the {} inner channels", c.norm_groups,
                 s.sizes.values()));
  }
  s.norm_eps = c.norm_eps > 0 ? c.norm_eps : env.norm_eps;
  if (!c.in_scales.empty()) s.in_scales = parse_in_scales(c.in_scales);
  if (!(c.out_scale > 0)) usage(format("out_scale={} is not positive", c.out_scale));
  s.out_scale = c.out_scale;
  return s;
}

class Mamba2 final : public RecurrentMixer {
 public:
  Mamba2(Mamba2Config config, const Mamba2Shape& s, const LayerEnv& env, ParamBuilder& params)
      : RecurrentMixer({s.sizes, config.conv, {s.sizes.values() + 2 * s.sizes.keys()}}),
        config_(std::move(config)),
        shape_(s) {
    const int64_t inner = s.sizes.values(), bc = s.sizes.keys(), heads = s.sizes.value_heads;
    in_proj_ = &params.matrix("in_proj.weight", 2 * inner + 2 * bc, s.width, env.init_std);
    in_proj_->row_splits = {inner, inner, bc, bc};
    // Published files have these rows below the others; as what makes decays they stay f32.
    dt_proj_ = &params.gate_matrix("in_proj_dt.weight", heads, s.width, env.init_std);
    if (s.bias) {
      in_bias_ = &params.vector("in_proj.bias", {2 * inner + 2 * bc}, Init::zeros());
      dt_in_bias_ = &params.vector("in_proj_dt.bias", {heads}, Init::zeros());
    }
    conv_ = conv_filter(params, "conv1d.weight", inner + 2 * bc, config_.conv);
    if (s.conv_bias) conv_bias_ = &params.vector("conv1d.bias", {inner + 2 * bc}, Init::zeros());
    dt_bias_ = &params.vector("dt_bias", {heads}, Init::dt_bias());
    a_log_ = &params.vector("A_log", {heads}, Init::log_of_uniform(1, 16));
    skip_ = &params.vector("D", {config_.channel_skip ? inner : heads}, Init::ones());
    if (s.norm != Mamba2Norm::kNone) norm_ = &params.vector("norm.weight", {inner}, Init::ones());
    out_proj_ = &params.matrix("out_proj.weight", s.width, inner, env.out_init_std);
    if (s.bias) out_bias_ = &params.vector("out_proj.bias", {s.width}, Init::zeros());
    for (size_t part = 0; part < 4 && !s.in_scales.empty(); ++part) {
      const int64_t columns = part < 2 ? inner : bc;
      zxbc_scales_.insert(zxbc_scales_.end(), static_cast<size_t>(columns),
                          static_cast<float>(s.in_scales[part]));
    }
    if (!config_.as.empty() && env.links != nullptr) {
      env.links->declare(config_.as, {"memory", {inner}});
    }
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const HeadSizes& n = sizes();
    const int64_t inner = n.values(), bc = n.keys();
    const RecurrentStates kept(memory(), states);
    const std::vector<Tensor> projected = linear_many(ctx, x, {{in_proj_, dt_proj_}});
    Tensor zxbc = biased(ctx, projected[0], in_bias_);
    Tensor raw = biased(ctx, projected[1], dt_in_bias_);
    if (!shape_.in_scales.empty()) {
      zxbc = scale_columns(ctx, zxbc, zxbc_scales_);
      raw = scale(ctx, raw, static_cast<float>(shape_.in_scales[4]));
    }
    const std::vector<Tensor> in = split_columns(ctx, zxbc, {inner, inner + 2 * bc});
    const std::vector<Tensor> xbc = split_columns(
        ctx, conv_silu(ctx, in[1], conv_, batch, kept.windows(0), conv_bias_), {inner, bc, bc});
    const TimeSteps steps = time_steps(ctx, raw, *a_log_, *dt_bias_, shape_.dt_min, shape_.dt_max);
    RecurrenceInputs r;
    r.v = as_heads(ctx, xbc[0], n.value_heads);
    r.k = as_heads(ctx, xbc[1], n.heads);
    r.q = as_heads(ctx, xbc[2], n.heads);
    r.g = steps.g;
    r.beta = steps.dt;
    Tensor y = recurrence(ctx, mamba2_recurrence(), r, batch.seq_starts, kept.matrices());
    kept.advance(batch);
    y = reshape(ctx, add_scaled(ctx, std::move(y), r.v, *skip_), {x.size(0), inner});
    if (!config_.as.empty() && batch.links != nullptr)
      batch.links->put(config_.as, {.tensors = {y}, .states = {}, .keys = {}});
    y = biased(ctx, linear(ctx, gate_and_norm(ctx, in[0], y), *out_proj_), out_bias_);
    return scale(ctx, y, static_cast<float>(shape_.out_scale));
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    std::vector<double> memory;
    std::vector<double> y = mamba2_ref(shape_, params, x, &memory);
    if (!config_.as.empty() && params.links != nullptr) {
      params.links->put(config_.as, {std::move(memory)});
    }
    return y;
  }

 private:
  Tensor gate_and_norm(const Context& ctx, const Tensor& z, Tensor y) const {
    if (shape_.norm != Mamba2Norm::kBeforeGate) y = gated(ctx, z, y);
    if (shape_.norm == Mamba2Norm::kNone) return y;
    const int64_t tokens = y.size(0), inner = y.size(1), groups = shape_.norm_groups;
    y = reshape(ctx, y, {tokens, groups, inner / groups});
    y = reshape(ctx, rms_norm(ctx, y, *norm_, shape_.norm_eps), {tokens, inner});
    return shape_.norm == Mamba2Norm::kBeforeGate ? gated(ctx, z, y) : y;
  }

  Mamba2Config config_;
  Mamba2Shape shape_;
  std::vector<float> zxbc_scales_;  // of the columns of in_proj; empty: 1
  Parameter *in_proj_ = nullptr, *in_bias_ = nullptr, *dt_proj_ = nullptr, *dt_in_bias_ = nullptr;
  Parameter *conv_ = nullptr, *conv_bias_ = nullptr;
  Parameter *dt_bias_ = nullptr, *a_log_ = nullptr, *skip_ = nullptr, *norm_ = nullptr;
  Parameter *out_proj_ = nullptr, *out_bias_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_mamba2(const Options& options, const LayerEnv& env,
                                   ParamBuilder& params) {
  auto config = read_options<Mamba2Config>("mamba2", options);
  check_conv_taps("mamba2", config.conv);
  const Mamba2Shape shape = resolve(config, env);
  return std::make_unique<Mamba2>(std::move(config), shape, env, params);
}

}  // namespace braid
