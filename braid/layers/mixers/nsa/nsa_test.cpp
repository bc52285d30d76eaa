#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("nsa") {
  for (const char* options :
       {"block=8,top_n=4,window=12", "block=5,top_n=5,window=3,kv_heads=1,rope=false",
        "block=16,top_n=1,window=20,heads=2,head_dim=6"}) {
    for (const std::string& failure : testing::check_mixer(
             "nsa",
             {.options = options, .f32_matrices = "g_proj.weight ", .constant_state = false})) {
      FAIL_CHECK(failure);
    }
  }
}

}  // namespace braid
