#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("fox") {
  for (const char* options :
       {"", "heads=4,kv_heads=2,head_dim=6,qk_norm=true,out_norm=true,gate=true",
        "kv_heads=1,rope=true,window=9"}) {
    for (const std::string& failure : testing::check_mixer(
             "fox",
             {.options = options, .f32_matrices = "fgate_proj.weight ", .constant_state = false})) {
      FAIL_CHECK(failure);
    }
  }
}

}  // namespace braid
