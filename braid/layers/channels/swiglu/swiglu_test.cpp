#include <doctest/doctest.h>

#include "braid/layers/channel.h"
#include "braid/layers/channels/swiglu_ref.h"
#include "braid/ops/tape.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::Complex;

std::unique_ptr<Layer> make(const Context& ctx, ParameterSet& set, const LayerEnv& env,
                            const char* ffn) {
  Options options;
  if (ffn != nullptr) options.set("ffn", ffn);
  ParamBuilder params(ctx, set, 1);
  return find_channel("swiglu")->make(options, env, params);
}

}  // namespace

TEST_CASE("swiglu equals its definition, values and gradients") {
  Context ctx;
  ParameterSet set;
  LayerEnv env;
  env.width = 10;
  env.init_std = env.out_init_std = 0.5;
  const auto layer = make(ctx, set, env, "13");
  CHECK(layer->options().str() == "ffn=13");
  set.allocate_grads(ctx);
  const int64_t tokens = 5, width = 10, ffn = 13;
  Tensor x = testing::random_tensor(ctx, {tokens, width}, "x");
  const Tensor up = testing::random_tensor(ctx, {tokens, width}, "up");
  Tape tape;
  Context train = ctx;
  train.tape = &tape;
  tape.watch(x);
  const Tensor y = layer->forward(train, x, Batch::uniform(1, tokens), {});
  std::vector<double> all = testing::values(x);  // x, gate, up, down
  for (const Parameter& p : set) {
    const auto v = testing::values(p.value);
    all.insert(all.end(), v.begin(), v.end());
  }
  const auto run = [&](std::span<const Complex> in) {
    const Complex* w = in.data() + tokens * width;
    const SwigluWeights<Complex> weights{width, ffn, w, w + ffn * width, w + 2 * ffn * width};
    std::vector<Complex> out(tokens * width);
    for (int64_t t = 0; t < tokens; ++t) {
      swiglu_ref<Complex>(weights, in.data() + t * width, 1.0, out.data() + t * width);
    }
    return out;
  };
  std::vector<double> want;
  for (const Complex& v : run(std::vector<Complex>(all.begin(), all.end()))) {
    want.push_back(v.real());
  }
  CHECK(testing::worst_error(y, want) <= 2e-6);
  ReferenceParams reference;
  for (const Parameter& p : set) reference.values[p.name] = testing::values(p.value);
  CHECK(testing::worst_error(layer->reference(reference, testing::values(x), tokens), want) <=
        1e-12);
  tape.backward(ctx, y, up);
  const auto gradient = testing::complex_step(all, [&](std::span<const Complex> in) {
    Complex sum = 0;
    const auto out = run(in);
    for (size_t i = 0; i < out.size(); ++i) sum += out[i] * static_cast<double>(up.data()[i]);
    return sum;
  });
  size_t at = 0;
  const auto check = [&](const Tensor& got) {
    const size_t n = static_cast<size_t>(got.count());
    CHECK(testing::worst_error(got, std::span(gradient).subspan(at, n)) <= 5e-6);
    at += n;
  };
  check(tape.grad(x));
  for (const Parameter& p : set) check(p.grad);
}

TEST_CASE("swiglu's default width and its errors") {
  Context ctx;
  LayerEnv env;
  env.width = 192;
  ParameterSet set, bad;
  const auto layer = make(ctx, set, env, nullptr);
  CHECK(layer->options().empty());
  CHECK(set.find("gate_proj.weight")->value.shape() == (Shape{512, 192}));
  CHECK_THROWS_WITH_AS(make(ctx, bad, env, "-3"),
                       "swiglu: ffn=-3 must be positive, or 0 for 8/3 of the width", Error);
}

}  // namespace braid
