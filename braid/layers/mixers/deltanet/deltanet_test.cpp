#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("deltanet") {
  for (const char* options :
       {"", "conv=0,neg_eigval=true,gate=true", "heads=2,head_dim=6,v_heads=4,value_dim=10"}) {
    for (const std::string& failure :
         testing::check_mixer("deltanet", {.options = options, .f32_matrices = "b_proj.weight "})) {
      FAIL_CHECK(failure);
    }
  }
}

}  // namespace braid
