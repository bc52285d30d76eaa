#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("shortconv") {
  for (const char* options : {"", "conv=2", "conv=5,bias=true"}) {
    for (const std::string& failure : testing::check_mixer("shortconv", {.options = options})) {
      FAIL_CHECK(failure);
    }
  }
}

}  // namespace braid
