#include <doctest/doctest.h>

#include <cstring>

#include "braid/layers/channel.h"
#include "braid/layers/channels/act.h"
#include "braid/layers/channels/feed_forward_ref.h"
#include "braid/ops/tape.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::Complex;

std::unique_ptr<Layer> make(const Context& ctx, ParameterSet& set, const char* name, int64_t width,
                            std::initializer_list<std::pair<const char*, const char*>> items) {
  LayerEnv env;
  env.width = width;
  env.init_std = env.out_init_std = 0.5;
  Options options;
  for (const auto& [key, value] : items) options.set(key, value);
  ParamBuilder params(ctx, set, 1);
  return find_channel(name)->make(options, env, params);
}

// Where there are biases, swiglu has its constants too.
constexpr double kGateScale = 0.7, kOutScale = 1.3;

// x, then the parameters in the order they were made.
std::vector<Complex> run(std::span<const Complex> in, bool gated, Act act, bool bias,
                         int64_t tokens, int64_t width, int64_t ffn) {
  const Complex* at = in.data() + tokens * width;
  const auto take = [&](int64_t n) {
    const Complex* p = at;
    at += n;
    return p;
  };
  FeedForwardWeights<Complex> w{width, ffn, nullptr, nullptr, nullptr};
  w.act.act = act;
  if (gated) w.gate = take(ffn * width);
  w.up = take(ffn * width);
  w.down = take(width * ffn);
  if (bias && gated) w.gate_bias = take(ffn);
  if (bias) w.up_bias = take(ffn);
  if (bias) w.down_bias = take(width);
  const double out_scale = bias && gated ? kOutScale : 1;
  if (bias && gated) w.gate_scale = kGateScale;
  CHECK(at == in.data() + in.size());
  std::vector<Complex> out(static_cast<size_t>(tokens * width));
  for (int64_t t = 0; t < tokens; ++t) {
    feed_forward_ref<Complex>(w, in.data() + t * width, out_scale, out.data() + t * width);
  }
  return out;
}

void check(const char* name, const char* act_text, bool bias) {
  CAPTURE(name);
  CAPTURE(act_text);
  CAPTURE(bias);
  const int64_t tokens = 5, width = 10, ffn = 13;
  const bool gated = std::strcmp(name, "swiglu") == 0;
  const Act act = read_act(name, act_text,
                           {Act::kSilu, Act::kGelu, Act::kGeluTanh, Act::kRelu2, Act::kClamped});
  Context ctx;
  ParameterSet set;
  const auto layer =
      bias && gated ? make(ctx, set, name, width,
                           {{"ffn", "13"},
                            {"act", act_text},
                            {"bias", "true"},
                            {"gate_scale", "0.7"},
                            {"out_scale", "1.3"}})
                    : make(ctx, set, name, width,
                           {{"ffn", "13"}, {"act", act_text}, {"bias", bias ? "true" : "false"}});
  for (Parameter& p : set) {
    if (p.role == ParamRole::kVector) p.value = testing::random_tensor(ctx, p.value.shape(), "b");
  }
  set.allocate_grads(ctx);
  Tensor x = testing::random_tensor(ctx, {tokens, width}, "x");
  const Tensor up = testing::random_tensor(ctx, {tokens, width}, "up");
  Tape tape;
  Context train = ctx;
  train.tape = &tape;
  tape.watch(x);
  const Tensor y = layer->forward(train, x, Batch::uniform(1, tokens), {});
  std::vector<double> all = testing::values(x);
  ReferenceParams reference;
  for (const Parameter& p : set) {
    const auto v = testing::values(p.value);
    all.insert(all.end(), v.begin(), v.end());
    reference.values[p.name] = v;
  }
  const auto evaluate = [&](std::span<const Complex> in) {
    return run(in, gated, act, bias, tokens, width, ffn);
  };
  std::vector<double> want;
  for (const Complex& v : evaluate(std::vector<Complex>(all.begin(), all.end()))) {
    want.push_back(v.real());
  }
  CHECK(testing::worst_error(y, want) <= 2e-6);
  CHECK(testing::worst_error(layer->reference(reference, testing::values(x), tokens), want) <=
        1e-12);
  tape.backward(ctx, y, up);
  const auto gradient = testing::complex_step(all, [&](std::span<const Complex> in) {
    Complex sum = 0;
    const auto out = evaluate(in);
    for (size_t i = 0; i < out.size(); ++i) sum += out[i] * static_cast<double>(up.data()[i]);
    return sum;
  });
  size_t at = 0;
  const auto compare = [&](const Tensor& got) {
    const size_t n = static_cast<size_t>(got.count());
    CHECK(testing::worst_error(got, std::span(gradient).subspan(at, n)) <= 5e-6);
    at += n;
  };
  compare(tape.grad(x));
  for (const Parameter& p : set) compare(p.grad);
}

}  // namespace

TEST_CASE("swiglu and mlp equal their definitions, values and gradients, for every activation") {
  for (const bool bias : {false, true}) {
    for (const char* act : {"silu", "gelu", "gelu_tanh"}) check("swiglu", act, bias);
    for (const char* act : {"silu", "gelu", "gelu_tanh", "relu2"}) check("mlp", act, bias);
  }
}

TEST_CASE("activations keep their digits from tail to tail") {
  Context ctx;
  const int64_t n = 4001;
  const Tensor x = Tensor::empty(ctx, {1, n});
  for (int64_t i = 0; i < n; ++i) x.data()[i] = static_cast<float>(i - 2000) * 0.01f;
  for (const Act act : {Act::kSilu, Act::kGelu, Act::kGeluTanh, Act::kRelu2}) {
    CAPTURE(static_cast<int>(act));
    const Tensor y = activate(ctx, x, act);
    double worst = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double at = x.data()[i];
      // Where the double reference itself cancels, by the tail's own function.
      double want = ref::act_of<double>(act, at);
      if (act == Act::kGelu) want = at / 2 * std::erfc(-at / std::sqrt(2.0));
      if (act == Act::kGeluTanh) {
        want = at / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (at + 0.044715 * at * at * at)));
      }
      REQUIRE(std::isfinite(y.data()[i]));
      worst = std::max(worst, std::abs(want - y.data()[i]) / std::max(std::abs(want), 1e-6));
    }
    CHECK(worst <= 2e-6);
  }
}

TEST_CASE("exact and tanh GELU differ by what they differ") {
  Context ctx;
  const Tensor x = Tensor::full(ctx, {1, 1}, -2.0f);
  CHECK(activate(ctx, x, Act::kGelu).data()[0] == doctest::Approx(-0.0455002639).epsilon(1e-6));
  CHECK(activate(ctx, x, Act::kGeluTanh).data()[0] == doctest::Approx(-0.0454023059).epsilon(1e-6));
}

TEST_CASE("feed-forward defaults, options and errors") {
  Context ctx;
  ParameterSet set, other, bad;
  const auto swiglu = make(ctx, set, "swiglu", 192, {});
  CHECK(swiglu->options().empty());
  CHECK(set.find("gate_proj.weight")->value.shape() == (Shape{512, 192}));
  const auto mlp = make(ctx, other, "mlp", 192, {{"act", "relu2"}, {"bias", "true"}});
  CHECK(mlp->options().str() == "act=relu2,bias=true");
  CHECK(other.find("up_proj.weight")->value.shape() == (Shape{768, 192}));
  CHECK(other.find("down_proj.bias")->value.shape() == (Shape{192}));
  CHECK_THROWS_WITH_AS(make(ctx, bad, "swiglu", 192, {{"ffn", "-3"}}),
                       "swiglu: ffn=-3 must be positive, or 0 for 8/3 of the width", Error);
  CHECK_THROWS_WITH_AS(make(ctx, bad, "mlp", 192, {{"ffn", "-3"}}),
                       "mlp: ffn=-3 must be positive, or 0 for 4 times the width", Error);
  CHECK_THROWS_WITH_AS(make(ctx, bad, "swiglu", 192, {{"gate_scale", "0"}}),
                       "swiglu: gate_scale=0 is not positive", Error);
  CHECK_THROWS_WITH_AS(make(ctx, bad, "swiglu", 192, {{"act", "relu2"}}),
                       "swiglu: act=relu2 is none of silu, gelu_tanh, gelu", Error);
}

}  // namespace braid
