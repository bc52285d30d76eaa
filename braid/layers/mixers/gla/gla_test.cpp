#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("gla") {
  for (const char* options :
       {"", "conv=4", "heads=2,head_dim=6,v_heads=4,value_dim=10,gate_rank=5"}) {
    for (const std::string& failure : testing::check_mixer(
             "gla", {.options = options, .f32_matrices = "gk_proj.1.weight gk_proj.0.weight "})) {
      FAIL_CHECK(failure);
    }
  }
}

}  // namespace braid
