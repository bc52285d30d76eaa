#include <doctest/doctest.h>

#include "braid/testing/stack_battery.h"

namespace braid {

TEST_CASE("gmu") {
  for (const char* stack : {"mamba{as=m}, swiglu, gmu{of=m}, swiglu, gmu{of=m,bias=true}",
                            "2 x (mamba{as=m,state=3}, gmu{of=m} | gqa)"}) {
    for (const std::string& failure : testing::check_stack(stack)) FAIL_CHECK(failure);
  }
}

}  // namespace braid
