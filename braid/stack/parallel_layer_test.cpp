// Mixers side by side: the mean of the normed, `a | b`, and the sum, `a + b`.

#include <doctest/doctest.h>

#include "braid/stack/model.h"
#include "braid/testing/stack_battery.h"

namespace braid {
namespace {

ModelSettings settings(const char* stack) {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = 32;
  s.heads = 2;
  return s;
}

}  // namespace

TEST_CASE("mixers side by side are those of the reference, in every way a stack runs") {
  for (const char* stack : {
           "gqa | mamba, swiglu",
           "2 x (gqa{scale=0.2,out_scale=0.9} + "
           "mamba2{state=8,head_dim=8,in_scales=0.4:0.3:0.4:0.6:"
           "0.4,out_scale=0.24}, swiglu{gate_scale=0.9,out_scale=0.6})",
           "gqa{as=a} + kda + shortconv, gqa{of=a} + gdn, loop 2 x (gdn | gqa{window=7})",
       }) {
    for (const std::string& f : testing::check_stack(stack)) FAIL_CHECK(f);
  }
}

TEST_CASE("a sum has its branches' parameters and no others") {
  Context ctx;
  const Model sum(ctx, settings("gqa + kda")), mean(ctx, settings("gqa | kda"));
  CHECK(sum.sublayers()[0].name == "gqa+kda");
  CHECK(mean.sublayers()[0].name == "gqa|kda");
  for (const Parameter& p : sum.parameters())
    CHECK(p.name.find("branch_norm") == std::string::npos);
  CHECK(mean.parameters().trained_count() == sum.parameters().trained_count() + 2 * 32);
}

}  // namespace braid
