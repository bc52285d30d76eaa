#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("cmix") {
  for (const char* options : {"", "ffn=20,receptance=true"}) {
    for (const std::string& failure : testing::check_mixer("cmix", {.options = options})) {
      FAIL_CHECK(failure);
    }
  }
}

}  // namespace braid
