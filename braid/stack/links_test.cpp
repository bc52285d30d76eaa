// Layers that read other layers by name.

#include <doctest/doctest.h>

#include "braid/base/error.h"
#include "braid/stack/model.h"
#include "braid/testing/stack_battery.h"

namespace braid {
namespace {

std::string error_of(const char* stack) {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = 32;
  s.heads = 2;
  Context ctx;
  try {
    Model model(ctx, s);
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kUsage);
    return e.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("attention over another layer's keys and values") {
  for (const char* stack : {
           "gqa{as=kv}, swiglu, gqa{of=kv}, swiglu",
           "gqa{as=kv,kv_heads=1,qk_norm=head,bias=qkv}, "
           "gqa{of=kv,qk_norm=head,bias=qkvo,gate=true}",
           "2 x (gqa{as=kv,window=9}, gqa{of=kv}, gqa{of=kv,window=5}), kda",
           "gqa{as=a,rope=false} | kda, loop 2 x (gqa{as=b}, gqa{of=b}), gqa{of=a,rope=false} | "
           "gdn",
       }) {
    const std::vector<std::string> failures = testing::check_stack(stack);
    for (const std::string& f : failures) FAIL_CHECK(f);
  }
}

TEST_CASE("a reader has no state of its own") {
  Context ctx;
  ModelSettings s;
  s.stack = parse_stack("gqa{as=kv}, 7 x gqa{of=kv}", known_layers());
  s.width = 32;
  s.heads = 2;
  Model shared(ctx, s);
  s.stack = parse_stack("gqa", known_layers());
  Model one(ctx, s);
  CHECK(shared.state_bytes(1000) == one.state_bytes(1000));
}

TEST_CASE("names that nobody published, or something else, are errors that say so") {
  CHECK(error_of("gqa{of=kv}").find("of=kv is the name of no layer before it; give one as=kv") !=
        std::string::npos);
  CHECK(error_of("gqa{as=a}, gqa{of=kv}").find("there are: a (kv)") != std::string::npos);
  CHECK(error_of("gqa{as=kv}, gqa{of=kv,heads=4,head_dim=8}")
            .find("heads of 8 channels, but those") != std::string::npos);
  CHECK(error_of("gqa{as=kv,window=4}, gqa{of=kv,window=8}").find("window=8 is wider than 4") !=
        std::string::npos);
}

}  // namespace braid
