#include <doctest/doctest.h>

#include "braid/testing/mixer_battery.h"

namespace braid {
namespace {

void check(const char* options, const char* f32_matrices) {
  for (const std::string& failure : testing::check_mixer(
           "fox", {.options = options, .f32_matrices = f32_matrices, .constant_state = false})) {
    FAIL_CHECK(failure);
  }
}

}  // namespace

TEST_CASE("fox") {
  for (const char* options :
       {"", "heads=4,kv_heads=2,head_dim=6,qk_norm=true,out_norm=true,gate=true",
        "kv_heads=1,rope=true,window=9"}) {
    check(options, "fgate_proj.weight ");
  }
}

TEST_CASE("fox with shifted keys and values") {
  for (const char* options :
       {"shift=true", "heads=4,kv_heads=2,qk_norm=true,out_norm=true,gate=true,shift=true"}) {
    check(options, "fgate_proj.weight k_proj.shift_proj.weight v_proj.shift_proj.weight ");
  }
}

}  // namespace braid
