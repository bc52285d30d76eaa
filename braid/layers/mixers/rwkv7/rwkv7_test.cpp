#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"
#include "braid/testing/stack_battery.h"

namespace braid {

TEST_CASE("rwkv7") {
  for (const char* options : {"head_dim=8,decay_rank=4,a_rank=3,v_rank=2,g_rank=5",
                              "head_dim=12,decay_rank=1,g_rank=2"}) {
    for (const std::string& failure : testing::check_mixer(
             "rwkv7",
             {.options = options,
             .f32_matrices = "w_lora.lora.0.weight w_lora.lora.2.weight a_lora.lora.0.weight "
                             "a_lora.lora.2.weight g_lora.lora.0.weight g_lora.lora.2.weight ",
             // A first token's output is (r . k) v before the norm, which takes its scale out
             // again: what is left for r, k and a is a difference of nearly equal sums. At the
             // sequence of one token both ways are 1e-5 from the definition, on either side of it.
              .packed_gradient_tolerance = 3e-5})) {
      FAIL_CHECK(failure);
    }
  }
}

TEST_CASE("rwkv7: later layers mix in the first one's values") {
  const std::string layer = "rwkv7{head_dim=8,decay_rank=4,a_rank=3,v_rank=2,g_rank=5}";
  for (const std::string& failure : testing::check_stack(layer + ", cmix, " + layer)) {
    FAIL_CHECK(failure);
  }
}

}  // namespace braid
