#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("gdn2") {
  for (const char* options :
       {"", "conv=0,neg_eigval=true", "heads=2,head_dim=6,v_heads=4,value_dim=10,gate_rank=5"}) {
    for (const std::string& failure : testing::check_mixer(
             "gdn2", {.options = options,
                     .f32_matrices = "f_proj.0.weight b_proj.weight w_proj.weight g_proj.0.weight "
                                     "f_proj.1.weight g_proj.1.weight "})) {
      FAIL_CHECK(failure);
    }
  }
}

}  // namespace braid
