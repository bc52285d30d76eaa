#include <doctest/doctest.h>

#include <cmath>

#include "braid/base/error.h"
#include "braid/layers/mixer.h"
#include "braid/testing/mixer_battery.h"
#include "braid/testing/stack_battery.h"

namespace braid {
namespace {

std::string error_of(const Options& options) {
  ParameterSet params;
  const Context ctx;
  ParamBuilder builder(ctx, params, 1);
  LayerEnv env;
  env.width = 32;
  env.heads = 4;
  env.head_dim = 8;
  try {
    find_mixer("diff")->make(options, env, builder);
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kUsage);
    return e.what();
  }
  return "no error";
}

Options options_of(std::initializer_list<std::pair<const char*, const char*>> pairs) {
  Options o;
  for (const auto& [key, value] : pairs) o.set(key, value);
  return o;
}

}  // namespace

TEST_CASE("diff") {
  // Without positions a bias of the keys moves all scores of a query alike: its gradient is zero,
  // and there is nothing to compare.
  for (const char* options :
       {"heads=4", "heads=8,kv_heads=4,head_dim=6,bias=qkvo", "heads=4,rope=false,window=5",
        "heads=4,kv_heads=2,interleaved=true,lambda_init=0.3,bias=qkv"}) {
    for (const std::string& failure :
         testing::check_mixer("diff", {.options = options, .constant_state = false})) {
      FAIL_CHECK(failure);
    }
  }
}

TEST_CASE("diff's windows keep the meta tokens visible") {
  for (const std::string& failure : testing::check_mixer(
           "diff", {.options = "heads=4,window=5", .meta_tokens = 70, .constant_state = false})) {
    FAIL_CHECK(failure);
  }
}

TEST_CASE("diff over another layer's keys and values") {
  for (const char* stack :
       {"diff{heads=4,kv_heads=2,as=kv}, swiglu, diff{heads=8,head_dim=6,of=kv,bias=qkvo}, swiglu",
        "gqa{as=kv,heads=2,head_dim=12,rope=false}, diff{heads=4,head_dim=6,of=kv,rope=false}"}) {
    for (const std::string& failure : testing::check_stack(stack)) FAIL_CHECK(failure);
  }
}

TEST_CASE("diff refuses heads that come in no pairs") {
  CHECK(error_of(options_of({{"heads", "3"}})).find("heads=3") != std::string::npos);
  CHECK(error_of(options_of({{"kv_heads", "1"}})).find("kv_heads=1") != std::string::npos);
  CHECK(error_of(options_of({{"lambda_init", "1.5"}})).find("lambda_init=1.5") !=
        std::string::npos);
  CHECK(error_of({}) == "no error");
}

}  // namespace braid
