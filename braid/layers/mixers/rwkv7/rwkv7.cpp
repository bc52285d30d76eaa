#include <algorithm>
#include <cmath>
#include <utility>

#include "braid/base/format.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/layers/mixers/rwkv7/rwkv7_keys.h"
#include "braid/layers/mixers/rwkv7/rwkv7_ref.h"
#include "braid/ops/add_scaled.h"
#include "braid/ops/bias.h"
#include "braid/ops/decay_gate.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/layer_norm.h"
#include "braid/ops/linear.h"
#include "braid/ops/token_shift.h"
#include "braid/ops/view.h"
#include "braid/ops/wkv.h"

namespace braid {
namespace {

constexpr const char* kFirst = "v_first";
constexpr double kStrongestDecay = -0.6065306597126334;  // -e^(-1/2)

struct Rwkv7Config {
  int64_t head_dim = 64;
  int64_t decay_rank = 0;  // 0: by the width
  int64_t a_rank = 0;
  int64_t v_rank = 0;
  int64_t g_rank = 0;
  bool value_residual = true;  // later layers mix in the first one's values
  double norm_eps = 64e-5;     // of the heads' norm
  void visit(OptionVisitor& v) {
    v.field("head_dim", head_dim, int64_t{64});
    v.field("decay_rank", decay_rank, int64_t{0});
    v.field("a_rank", a_rank, int64_t{0});
    v.field("v_rank", v_rank, int64_t{0});
    v.field("g_rank", g_rank, int64_t{0});
    v.field("value_residual", value_residual, true);
    v.field("norm_eps", norm_eps, 64e-5);
  }
};

// Ranks of the released models: a multiple of 32 near `factor` times the root of the width.
int64_t rank(int64_t given, double factor, int64_t width) {
  if (given > 0) return given;
  const double about = factor * std::sqrt(static_cast<double>(width)) / 32;
  return std::max<int64_t>(32, static_cast<int64_t>(std::lround(about)) * 32);
}

// One value per channel, from its place c / C in the width.
template <typename F>
Init by_channel(int64_t width, const F& value) {
  std::vector<float> list;
  for (int64_t c = 0; c < width; ++c) {
    list.push_back(static_cast<float>(value(static_cast<double>(c), static_cast<double>(width))));
  }
  return Init::values(std::move(list));
}

struct Lora {
  Parameter *down = nullptr, *up = nullptr, *bias = nullptr;
};

class Rwkv7 final : public RecurrentMixer {
 public:
  Rwkv7(const Rwkv7Config& config, const Rwkv7Shape& s, const LayerEnv& env, ParamBuilder& params)
      : RecurrentMixer({{s.heads, s.heads, s.head_dim, s.head_dim}, 2, {s.width}}),
        config_(config),
        shape_(s) {
    const int64_t c = s.width;
    make_mixes(env, params);
    r_ = &params.matrix("r_proj.weight", c, c, env.init_std);
    k_ = &params.matrix("k_proj.weight", c, c, env.init_std);
    v_ = &params.matrix("v_proj.weight", c, c, env.init_std);
    o_ = &params.matrix("o_proj.weight", c, c, env.out_init_std);
    make_loras(env, params);
    k_k_ = &params.vector("k_k", {c}, by_channel(c, [](double i, double n) {
                            return 0.71 - 0.1 * (i / (n - 1) - 0.5);
                          }));
    k_a_ = &params.vector("k_a", {c}, Init::uniform(1.02, 1.02));
    r_k_ = &params.vector("r_k", {s.heads, s.head_dim}, Init::uniform(-0.04, -0.04));
    const double depth = static_cast<double>(env.layer_index + 1) / static_cast<double>(env.depth);
    const double gain = std::pow(depth, 0.7);
    norm_ = &params.vector("g_norm.weight", {c}, Init::uniform(gain, gain));
    norm_bias_ = &params.vector("g_norm.bias", {c}, Init::zeros());
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const int64_t tokens = x.size(0), heads = shape_.heads;
    const RecurrentStates kept(memory(), states);
    const Tensor before = token_difference(ctx, x, batch.seq_starts, kept.windows(0));
    const auto mixed = [&](Parameter* mix) { return add_scaled(ctx, x, before, *mix); };
    const Tensor xv = mixed(x_v_);
    const Tensor r = linear(ctx, mixed(x_r_), *r_), k = linear(ctx, mixed(x_k_), *k_);
    const Tensor v = residual_values(ctx, linear(ctx, xv, *v_), xv, batch);
    const Tensor w = lora(ctx, w_, softcap(ctx, linear(ctx, mixed(x_w_), *w_.down), 1.0f));
    const Tensor eta = sigmoid(ctx, lora(ctx, a_, linear(ctx, mixed(x_a_), *a_.down)));
    const Tensor g = lora(ctx, g_, sigmoid(ctx, linear(ctx, mixed(x_g_), *g_.down)));
    const Rwkv7Keys keys = rwkv7_keys(ctx, k, eta, heads, *k_k_, *k_a_);
    RecurrenceInputs in;
    in.q = as_heads(ctx, r, heads);
    in.g = as_heads(ctx, beta_gate(ctx, w, kStrongestDecay), heads);
    in.k = keys.write;
    in.v = as_heads(ctx, v, heads);
    in.p = keys.minus_kappa;
    in.b = keys.erase;
    const RecurrenceConfig config{.decay = RecurrenceConfig::Decay::kVector,
                                  .erase = RecurrenceConfig::Erase::kPair};
    Tensor o = recurrence(ctx, config, in, batch.seq_starts, kept.matrices());
    kept.advance(batch);
    o = layer_norm(ctx, o, *norm_, *norm_bias_, shape_.norm_eps);
    o = add_bonus(ctx, o, in.q, in.k, in.v, *r_k_);
    return linear(ctx, mul(ctx, reshape(ctx, o, {tokens, shape_.width}), g), *o_);
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    std::vector<double> first;
    if (!shape_.first) first = params.links->get(kFirst)[0];
    std::vector<double> y = rwkv7_ref(shape_, params, x, first);
    if (shape_.first && params.links != nullptr) params.links->put(kFirst, {std::move(first)});
    return y;
  }

 private:
  void make_mixes(const LayerEnv& env, ParamBuilder& params) {
    const int64_t c = shape_.width;
    const double left = 1.0 - static_cast<double>(env.layer_index) /
                                  static_cast<double>(std::max<int64_t>(1, env.depth));
    const auto mix = [&](const char* name, double power) {
      return &params.vector(name, {c}, by_channel(c, [&](double i, double n) {
                              return 1 - std::pow(i / n, power * left);
                            }));
    };
    x_r_ = mix("x_r", 0.2);
    x_w_ = mix("x_w", 0.9);
    x_k_ = mix("x_k", 0.7);
    x_v_ = mix("x_v", 0.7);
    x_a_ = mix("x_a", 0.9);
    x_g_ = mix("x_g", 0.2);
  }

  void make_loras(const LayerEnv& env, ParamBuilder& params) {
    const int64_t c = shape_.width, d = shape_.head_dim;
    const double r0 = static_cast<double>(env.layer_index) /
                      static_cast<double>(std::max<int64_t>(1, env.depth - 1));
    const auto zigzag = [d](double i) {
      const double half = static_cast<double>(d - 1) / 2;
      const double z = half > 0 ? (std::fmod(i, static_cast<double>(d)) - half) / half : 0;
      return z * std::abs(z);
    };
    const auto line = [](double i, double n) { return i / (n - 1) - 0.5; };
    const auto make = [&](const char* name, int64_t low, const Init* bias) {
      Lora l;
      const std::string path = std::string(name) + ".lora.";
      l.down = &params.gate_matrix(path + "0.weight", low, c, 0);
      l.up = &params.gate_matrix(path + "2.weight", c, low, env.init_std);
      if (bias != nullptr) l.bias = &params.vector(path + "2.bias", {c}, *bias);
      return l;
    };
    const Init w0 = by_channel(c, [&](double i, double n) {
      return -6 + 6 * std::pow(i / (n - 1), 1 + std::pow(r0, 0.3)) + 0.5 + 2.5 * zigzag(i);
    });
    const Init a0 = by_channel(
        c, [&](double i, double n) { return -0.19 + 0.3 * zigzag(i) + 0.4 * line(i, n); });
    const Init v0 = by_channel(c, [&](double i, double n) { return 0.73 - 0.4 * line(i, n); });
    w_ = make("w_lora", rank(config_.decay_rank, 2.5, c), &w0);
    a_ = make("a_lora", rank(config_.a_rank, 2.5, c), &a0);
    if (!shape_.first) v_lora_ = make("v_lora", rank(config_.v_rank, 1.7, c), &v0);
    g_ = make("g_lora", rank(config_.g_rank, 5, c), nullptr);
  }

  static Tensor lora(const Context& ctx, const Lora& l, const Tensor& h) {
    return biased(ctx, linear(ctx, h, *l.up), l.bias);
  }

  // The first layer hands its values on; later ones move theirs towards them.
  Tensor residual_values(const Context& ctx, const Tensor& v, const Tensor& xv,
                         const Batch& batch) const {
    if (shape_.first) {
      if (batch.links != nullptr)
        batch.links->put(kFirst, {.tensors = {v}, .states = {}, .keys = {}});
      return v;
    }
    const Tensor& first = batch.links->get(kFirst).tensors[0];
    const Tensor part = sigmoid(ctx, lora(ctx, v_lora_, linear(ctx, xv, *v_lora_.down)));
    return add(ctx, v, mul(ctx, add(ctx, first, scale(ctx, v, -1.0f)), part));
  }

  Rwkv7Config config_;
  Rwkv7Shape shape_;
  Parameter *x_r_, *x_w_, *x_k_, *x_v_, *x_a_, *x_g_;
  Parameter *r_, *k_, *v_, *o_;
  Lora w_, a_, v_lora_, g_;
  Parameter *k_k_, *k_a_, *r_k_, *norm_, *norm_bias_;
};

Rwkv7Shape resolve(const Rwkv7Config& c, const LayerEnv& env) {
  if (c.head_dim < 1 || env.width % c.head_dim != 0) {
    throw Error(ErrorKind::kUsage,
                format("rwkv7: head_dim={} does not divide the width {}", c.head_dim, env.width));
  }
  for (const auto& [key, value] : {std::pair("decay_rank", c.decay_rank),
                                   {"a_rank", c.a_rank},
                                   {"v_rank", c.v_rank},
                                   {"g_rank", c.g_rank}}) {
    if (value < 0) {
      throw Error(ErrorKind::kUsage,
                  format("rwkv7: {}={} is negative; 0 is a rank by the width", key, value));
    }
  }
  Rwkv7Shape s;
  s.width = env.width;
  s.head_dim = c.head_dim;
  s.heads = env.width / c.head_dim;
  s.norm_eps = c.norm_eps;
  if (!c.value_residual || env.links == nullptr) return s;
  if (env.links->has(kFirst)) {
    const LinkShape& link = env.links->find("rwkv7", kFirst, "value");
    BRAID_CHECK(link.sizes[0] == s.width);
    s.first = false;
  } else {
    env.links->declare(kFirst, {"value", {s.width}});
  }
  return s;
}

}  // namespace

std::unique_ptr<Layer> make_rwkv7(const Options& options, const LayerEnv& env,
                                  ParamBuilder& params) {
  const auto config = read_options<Rwkv7Config>("rwkv7", options);
  return std::make_unique<Rwkv7>(config, resolve(config, env), env, params);
}

}  // namespace braid
