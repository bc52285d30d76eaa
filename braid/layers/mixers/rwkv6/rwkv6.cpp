#include <algorithm>
#include <array>
#include <cmath>

#include "braid/base/format.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/layers/mixers/rwkv6/log_decay.h"
#include "braid/layers/mixers/rwkv6/rwkv6_ref.h"
#include "braid/ops/add_scaled.h"
#include "braid/ops/bias.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/layer_norm.h"
#include "braid/ops/linear.h"
#include "braid/ops/token_shift.h"
#include "braid/ops/view.h"
#include "braid/ops/wkv.h"

namespace braid {
namespace {

struct Rwkv6Config {
  int64_t head_dim = 64;
  int64_t mix_rank = 32;    // of the data-dependent mixes
  int64_t decay_rank = 64;  // of the decays
  double norm_eps = 64e-5;  // of the heads' norm
  void visit(OptionVisitor& v) {
    v.field("head_dim", head_dim, int64_t{64});
    v.field("mix_rank", mix_rank, int64_t{32});
    v.field("decay_rank", decay_rank, int64_t{64});
    v.field("norm_eps", norm_eps, 64e-5);
  }
};

constexpr std::array<const char*, 5> kMixes = {"w", "k", "v", "r", "g"};  // order of x_lora.0

class Rwkv6 final : public RecurrentMixer {
 public:
  Rwkv6(const Rwkv6Config& config, const Rwkv6Shape& s, const LayerEnv& env, ParamBuilder& params)
      : RecurrentMixer({{s.heads, s.heads, s.head_dim, s.head_dim}, 2, {s.width}}),
        config_(config),
        shape_(s) {
    const int64_t c = s.width, m = s.mix_rank;
    const double depth = static_cast<double>(std::max<int64_t>(1, env.depth));
    const double left = 1 - static_cast<double>(env.layer_index) / depth;
    const double r0 = static_cast<double>(env.layer_index) / std::max(1.0, depth - 1);
    const auto by_channel = [&](const auto& value) {
      std::vector<float> list;
      for (int64_t i = 0; i < c; ++i) {
        list.push_back(static_cast<float>(value(static_cast<double>(i) / static_cast<double>(c))));
      }
      return Init::values(std::move(list));
    };
    const auto mix = [&](double power, double more) {
      return by_channel([&](double at) { return 1 - (std::pow(at, power * left) + more); });
    };
    base_mix_ = &params.vector("x_x", {c}, mix(1, 0));
    for (size_t i = 0; i < kMixes.size(); ++i) {
      const bool half = i >= 3;  // r and g
      mixes_[i] = &params.vector(std::string("x_") + kMixes[i], {c},
                                 mix(half ? 0.5 : 1, i == 2 ? 0.3 * r0 : 0));
    }
    mix_down_ = &params.gate_matrix("x_lora.0.weight", 5 * m, c, 0);
    for (size_t i = 0; i < kMixes.size(); ++i) {
      mix_ups_[i] =
          &params.gate_matrix(format("x_lora.2.{}.weight", kMixes[i]), c, m, env.init_std);
    }
    decay_down_ = &params.gate_matrix("w_lora.lora.0.weight", config.decay_rank, c, 0);
    decay_up_ = &params.gate_matrix("w_lora.lora.2.weight", c, config.decay_rank, env.init_std);
    decay_bias_ =
        &params.vector("w_lora.lora.2.bias", {c}, by_channel([&](double at) {
                         const double n = static_cast<double>(c);
                         return -6 + 5 * std::pow(at * n / std::max(1.0, n - 1), 0.7 + 1.3 * r0);
                       }));
    for (const auto& [to, name] : {std::pair(&r_, "r_proj.weight"),
                                   {&k_, "k_proj.weight"},
                                   {&v_, "v_proj.weight"},
                                   {&g_, "g_proj.weight"}}) {
      *to = &params.matrix(name, c, c, env.init_std);
    }
    o_ = &params.matrix("o_proj.weight", c, c, env.out_init_std);
    bonus_ = &params.vector("bonus", {s.heads, s.head_dim}, by_channel([&](double at) {
                              const double n = static_cast<double>(c), i = std::round(at * n);
                              return r0 * (1 - i / std::max(1.0, n - 1)) +
                                     0.1 * (std::fmod(i + 1, 3.0) - 1);
                            }));
    norm_ = &params.vector("g_norm.weight", {c}, Init::ones());
    norm_bias_ = &params.vector("g_norm.bias", {c}, Init::zeros());
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const int64_t heads = shape_.heads;
    const RecurrentStates kept(memory(), states);
    const Tensor before = token_difference(ctx, x, batch.seq_starts, kept.windows(0));
    const Tensor hidden =
        softcap(ctx, linear(ctx, add_scaled(ctx, x, before, *base_mix_), *mix_down_), 1.0f);
    const int64_t m = shape_.mix_rank;
    const std::vector<Tensor> low = split_columns(ctx, hidden, {m, m, m, m, m});
    std::array<Tensor, 5> in;
    for (size_t i = 0; i < kMixes.size(); ++i) {
      in[i] = add(ctx, add_scaled(ctx, x, before, *mixes_[i]),
                  mul(ctx, before, linear(ctx, low[i], *mix_ups_[i])));
    }
    const Tensor decay =
        linear(ctx, softcap(ctx, linear(ctx, in[0], *decay_down_), 1.0f), *decay_up_);
    PreReadInputs p;
    p.g = as_heads(ctx, log_decay(ctx, add_bias(ctx, decay, *decay_bias_)), heads);
    p.k = as_heads(ctx, linear(ctx, in[1], *k_), heads);
    p.v = as_heads(ctx, linear(ctx, in[2], *v_), heads);
    p.r = as_heads(ctx, linear(ctx, in[3], *r_), heads);
    Tensor o = pre_read(ctx, p, batch.seq_starts, kept.matrices());
    kept.advance(batch);
    o = add_bonus(ctx, o, p.r, p.k, p.v, *bonus_);
    o = layer_norm(ctx, o, *norm_, *norm_bias_, shape_.norm_eps);
    o = reshape(ctx, o, {x.size(0), shape_.width});
    return linear(ctx, gated(ctx, linear(ctx, in[4], *g_), o), *o_);
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return rwkv6_ref(shape_, params, x);
  }

 private:
  Rwkv6Config config_;
  Rwkv6Shape shape_;
  Parameter* base_mix_;
  std::array<Parameter*, 5> mixes_{}, mix_ups_{};
  Parameter *mix_down_, *decay_down_, *decay_up_, *decay_bias_;
  Parameter *r_, *k_, *v_, *g_, *o_, *bonus_, *norm_, *norm_bias_;
};

Rwkv6Shape resolve(const Rwkv6Config& c, const LayerEnv& env) {
  if (c.head_dim < 1 || env.width % c.head_dim != 0) {
    throw Error(ErrorKind::kUsage,
                format("rwkv6: head_dim={} does not divide the width {}", c.head_dim, env.width));
  }
  if (c.mix_rank < 1 || c.decay_rank < 1) {
    throw Error(ErrorKind::kUsage, format("rwkv6: mix_rank={} and decay_rank={} must be positive",
                                          c.mix_rank, c.decay_rank));
  }
  return {env.width, env.width / c.head_dim, c.head_dim, c.mix_rank, c.norm_eps};
}

}  // namespace

std::unique_ptr<Layer> make_rwkv6(const Options& options, const LayerEnv& env,
                                  ParamBuilder& params) {
  const auto config = read_options<Rwkv6Config>("rwkv6", options);
  return std::make_unique<Rwkv6>(config, resolve(config, env), env, params);
}

}  // namespace braid
