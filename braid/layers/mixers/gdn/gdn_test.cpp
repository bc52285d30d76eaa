#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("gdn") {
  for (const char* options :
       {"", "conv=0,neg_eigval=true", "heads=2,head_dim=6,v_heads=4,value_dim=10,conv=2"}) {
    for (const std::string& failure : testing::check_mixer(
             "gdn", {.options = options, .f32_matrices = "in_proj_b.weight in_proj_a.weight "})) {
      FAIL_CHECK(failure);
    }
  }
}

}  // namespace braid
