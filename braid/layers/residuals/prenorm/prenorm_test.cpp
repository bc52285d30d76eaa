#include <doctest/doctest.h>

#include "braid/testing/stack_battery.h"

namespace braid {

TEST_CASE("prenorm scales what sub-layers add") {
  for (const std::string& failure : testing::check_stack(
           "2 x (gqa, swiglu)", {.residual = "prenorm{scale=0.22}", .lengths = {1, 65}})) {
    FAIL_CHECK(failure);
  }
}

}  // namespace braid
