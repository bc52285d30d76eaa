#include <doctest/doctest.h>

#include "braid/testing/golden_mixer.h"
#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("kda") {
  for (const char* options :
       {"", "gate_lower_bound=-5,conv=0", "full_rank_gate=true,neg_eigval=true",
        "heads=2,head_dim=6,v_heads=4,value_dim=10,gate_rank=5,conv=3"}) {
    std::string f32 = "f_a_proj.weight f_b_proj.weight b_proj.weight ";
    if (std::string(options).find("full_rank_gate") == std::string::npos)
      f32 += "g_a_proj.weight g_b_proj.weight ";
    for (const std::string& failure :
         testing::check_mixer("kda", {.options = options, .f32_matrices = f32})) {
      FAIL_CHECK(failure);
    }
  }
}

TEST_CASE("kda options that do not fit") {
  Context ctx;
  LayerEnv env;
  env.width = 192;
  const auto make = [&](const char* key, const char* value) {
    testing::GoldenMixer(ctx, "kda", testing::golden_options({{key, value}}), env);
  };
  CHECK_THROWS_WITH_AS(make("heads", "5"),
                       "kda: heads=5 does not divide the width 192; give head_dim too", Error);
  CHECK_THROWS_WITH_AS(make("head_dim", "50"),
                       "kda: head_dim=50 does not divide the width 192; give heads too", Error);
  CHECK_THROWS_WITH_AS(make("v_heads", "4"), "kda: v_heads=4 is not a multiple of heads=3", Error);
  CHECK_THROWS_WITH_AS(make("conv", "1"), "kda: conv=1 is not 0 (no convolution) or 2 to 16",
                       Error);
  CHECK_THROWS_AS(make("gate_lower_bound", "5"), Error);
  CHECK_THROWS_AS(make("value_dim", "-4"), Error);
}

}  // namespace braid
