#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("linear") {
  for (const char* options : {"", "heads=2,head_dim=6,v_heads=4,value_dim=10"}) {
    for (const std::string& failure : testing::check_mixer("linear", {.options = options})) {
      FAIL_CHECK(failure);
    }
  }
}

}  // namespace braid
