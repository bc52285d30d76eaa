#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("lightning") {
  for (const char* options : {"", "heads=4,head_dim=5,layer=0,layers=80"}) {
    for (const std::string& failure : testing::check_mixer("lightning", {.options = options})) {
      FAIL_CHECK(failure);
    }
  }
}

}  // namespace braid
