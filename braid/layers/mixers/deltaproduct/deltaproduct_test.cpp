#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("deltaproduct") {
  for (const char* options : {"", "steps=3,conv=0,forget=false,gate=false,neg_eigval=false",
                              "heads=2,head_dim=6,v_heads=4,value_dim=10"}) {
    for (const std::string& failure : testing::check_mixer(
             "deltaproduct",
             {.options = options,
             .f32_matrices = std::string(options).find("forget=false") == std::string::npos
                                 ? "b_proj.weight a_proj.weight "
                                 : "b_proj.weight "})) {
      FAIL_CHECK(failure);
    }
  }
}

}  // namespace braid
