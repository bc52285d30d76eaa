#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("mamba2") {
  for (const char* options :
       {"state=16,head_dim=8", "state=8,head_dim=8,groups=3,norm=before,dt_min=0.01,dt_max=0.5",
        "state=5,heads=4,head_dim=6,groups=2,norm_groups=1,channel_skip=true,bias=true",
        "state=8,head_dim=16,conv=0,norm=none",
        "state=8,heads=4,head_dim=6,groups=2,bias=true,in_scales=0.35:0.25:1.5:0.5:2,out_scale=0."
        "24"}) {
    for (const std::string& failure : testing::check_mixer(
             "mamba2", {.options = options, .f32_matrices = "in_proj_dt.weight "})) {
      FAIL_CHECK(failure);
    }
  }
}

}  // namespace braid
