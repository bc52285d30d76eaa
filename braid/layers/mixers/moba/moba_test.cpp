#include <doctest/doctest.h>

#include "braid/layers/mixer.h"
#include "braid/testing/golden_mixer.h"
#include "braid/testing/mixer_battery.h"
#include "braid/testing/numeric.h"

namespace braid {

TEST_CASE("moba") {
  for (const char* options : {"block=8,top_k=3", "block=5,top_k=2,kv_heads=1,rope=false",
                              "block=16,top_k=1,heads=2,head_dim=6"}) {
    for (const std::string& failure :
         testing::check_mixer("moba", {.options = options, .constant_state = false})) {
      FAIL_CHECK(failure);
    }
  }
}

// Blocks are chosen by keys before they are rounded, so that the choice is that of f32.
TEST_CASE("moba keeps keys and values in bf16 and q8") {
  for (const KvType type : {KvType::kBF16, KvType::kQ8}) {
    testing::MixerBattery battery{.options = "block=8,top_k=3,kv_heads=1", .constant_state = false};
    battery.state.kv = type;
    battery.tolerance = type == KvType::kQ8 ? 3e-2 : 1e-2;
    for (const std::string& failure : testing::check_mixer("moba", battery)) FAIL_CHECK(failure);
  }
}

TEST_CASE("moba is full attention while there are no more blocks than it sees") {
  Context ctx;
  LayerEnv env;
  env.width = 24;
  env.heads = 3;
  env.head_dim = 8;
  testing::GoldenMixer sparse(ctx, "moba",
                              testing::golden_options({{"block", "16"}, {"top_k", "4"}}), env);
  testing::GoldenMixer dense(ctx, "gqa", {}, env);
  for (Parameter& p : sparse.params) {
    const Tensor& like = dense.params.find(p.name)->value;
    std::copy_n(like.data(), like.count(), p.value.data());
  }
  const Tensor x = testing::random_tensor(ctx, {64, 24}, "x");
  const Batch batch = Batch::uniform(1, 64);
  CHECK(testing::worst_error(sparse.layer->forward(ctx, x, batch, {}),
                             dense.layer->forward(ctx, x, batch, {})) <= 2e-6);
}

}  // namespace braid
