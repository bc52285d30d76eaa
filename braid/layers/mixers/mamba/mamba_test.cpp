#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("mamba") {
  for (const char* options :
       {"", "norms=true,state=5,dt_rank=3", "norms=true,norm_gains=false,norm_eps=1e-3",
        "conv=0,expand=1,bias=true", "inner=40,conv_bias=false"}) {
    for (const std::string& failure : testing::check_mixer(
             "mamba", {.options = options, .f32_matrices = "x_proj.weight dt_proj.weight "})) {
      FAIL_CHECK(failure);
    }
  }
}

}  // namespace braid
