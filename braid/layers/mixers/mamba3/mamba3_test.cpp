#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("mamba3") {
  for (const char* options :
       {"state=16,head_dim=8", "state=8,head_dim=8,groups=3,rope_fraction=1,rate=softplus",
        "state=6,heads=4,head_dim=6,groups=2,rope_fraction=0.4,out_norm=true,rate_floor=0.5"}) {
    for (const std::string& failure : testing::check_mixer(
             "mamba3", {.options = options, .f32_matrices = "in_proj_dt.weight "})) {
      FAIL_CHECK(failure);
    }
  }
}

}  // namespace braid
