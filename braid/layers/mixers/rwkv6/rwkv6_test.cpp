#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {

TEST_CASE("rwkv6") {
  for (const char* options :
       {"head_dim=8,mix_rank=3,decay_rank=4", "head_dim=12,mix_rank=1,decay_rank=2"}) {
    for (const std::string& failure : testing::check_mixer(
             "rwkv6", {.options = options,
                      .f32_matrices = "x_lora.0.weight x_lora.2.w.weight x_lora.2.k.weight "
                                      "x_lora.2.v.weight x_lora.2.r.weight x_lora.2.g.weight "
                                      "w_lora.lora.0.weight w_lora.lora.2.weight "})) {
      FAIL_CHECK(failure);
    }
  }
}

}  // namespace braid
