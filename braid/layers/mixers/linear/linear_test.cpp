#include <doctest/doctest.h>

#include "braid/base/error.h"
#include "braid/layers/mixer.h"
#include "braid/layers/mixers/linear/normalizer.h"
#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("linear") {
  for (const char* options : {"", "heads=2,head_dim=6,v_heads=4,value_dim=10", "norm=sum",
                              "norm=sum,heads=2,head_dim=10,v_heads=4,value_dim=6",
                              "norm=none,map=identity", "map=elu"}) {
    for (const std::string& failure : testing::check_mixer("linear", {.options = options})) {
      FAIL_CHECK(failure);
    }
  }
}

// Apart from the battery, whose central differences step over relu's corner.
TEST_CASE("linear's relu passes what is above zero, forward and back") {
  Context ctx;
  Tape tape;
  Tensor x = Tensor::empty(ctx, {3, 5}), d_y = Tensor::empty(ctx, {3, 5});
  for (int64_t i = 0; i < 15; ++i) {
    x.data()[i] = static_cast<float>((i * 7) % 15 - 7) / 3;
    d_y.data()[i] = static_cast<float>(i + 1);
  }
  tape.watch(x);
  Context train = ctx;
  train.tape = &tape;
  const Tensor y = feature_map(train, x, FeatureMap::kRelu);
  tape.backward(ctx, y, d_y);
  for (int64_t i = 0; i < 15; ++i) {
    const bool above = x.data()[i] > 0;
    CHECK(y.data()[i] == (above ? x.data()[i] : 0));
    CHECK(tape.grad(x).data()[i] == (above ? static_cast<float>(i + 1) : 0));
  }
}

TEST_CASE("linear's denominators must be sums of positive scores") {
  ParameterSet params;
  const Context ctx;
  ParamBuilder builder(ctx, params, 1);
  LayerEnv env;
  env.width = 32;
  env.heads = 4;
  env.head_dim = 8;
  Options options;
  options.set("norm", "sum");
  options.set("map", "identity");
  CHECK_THROWS_WITH_AS(find_mixer("linear")->make(options, env, builder),
                       doctest::Contains("map=identity"), Error);
}

}  // namespace braid
