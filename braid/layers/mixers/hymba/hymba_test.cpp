#include <doctest/doctest.h>

#include "braid/base/error.h"
#include "braid/stack/model.h"
#include "braid/testing/mixer_battery.h"
#include "braid/testing/stack_battery.h"

namespace braid {
namespace {

std::string error_of(const char* stack) {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = 32;
  s.heads = 2;
  const Context ctx;
  try {
    const Model model(ctx, s);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("hymba") {
  for (const auto& [options, meta] :
       {std::pair<const char*, int64_t>{"state=5,dt_rank=3", 0},
        {"heads=4,kv_heads=2,head_dim=6,expand=3,window=9,rope_theta=500", 0},
        {"state=7,kv_heads=1,window=5,conv=0", 70},
        {"heads=2,head_dim=8,state=4,rope=false,expand=1", 3}}) {
    for (const std::string& failure :
         testing::check_mixer("hymba", {.options = options,
                                       .f32_matrices = "x_proj.weight dt_proj.weight ",
                                       .meta_tokens = meta,
                                       .constant_state = false})) {
      FAIL_CHECK(failure);
    }
  }
}

TEST_CASE("hymba over another layer's keys and values, with meta tokens") {
  for (const auto& [stack, meta] :
       {std::pair<const char*, int64_t>{"hymba{as=kv,state=4}, swiglu, hymba{of=kv,state=4}", 0},
        {"2 x (hymba{as=kv,kv_heads=1,window=6}, hymba{of=kv}, hymba{of=kv,window=3}), hymba", 4},
        {"gqa{as=kv}, hymba{of=kv,expand=1}", 70}}) {
    testing::StackBattery battery;
    battery.settings.meta_tokens = meta;
    for (const std::string& failure : testing::check_stack(stack, battery)) FAIL_CHECK(failure);
  }
}

TEST_CASE("a hymba that reads has no keys, no values and no cache of its own") {
  const Context ctx;
  ModelSettings s;
  s.stack = parse_stack("hymba{as=kv,kv_heads=1}, hymba{of=kv}", known_layers());
  s.width = 32;
  s.heads = 2;
  Model model(ctx, s);
  const auto rows = [&](const char* name) { return model.parameters().find(name)->value.size(0); };
  // q, then x and its gate; the other has k and v of one head besides.
  CHECK(rows("layers.1.hymba.in_proj.weight") == 32 + 2 * 64);
  CHECK(rows("layers.0.hymba.in_proj.weight") == 32 + 16 + 32 + 2 * 64);
  const auto layers = model.sublayers();
  CHECK(layers[1].layer->state_bytes(1000) == layers[1].layer->state_bytes(0));
  CHECK(layers[0].layer->state_bytes(1000) > layers[0].layer->state_bytes(0));
}

TEST_CASE("hymba's options that do not fit are errors that name the values") {
  CHECK(error_of("hymba{kv_heads=3}").find("heads=2 is not a multiple of kv_heads=3") !=
        std::string::npos);
  CHECK(error_of("hymba{state=300}").find("state=300 is more than 256") != std::string::npos);
  CHECK(error_of("hymba{heads=3,head_dim=8}").find("do not divide the 64 inner channels") !=
        std::string::npos);
  CHECK(error_of("hymba{of=kv}").find("of=kv is the name of no layer before it") !=
        std::string::npos);
  CHECK(error_of("hymba{as=kv,window=4}, hymba{of=kv,window=8}").find("window=8 is wider than 4") !=
        std::string::npos);
  CHECK(error_of("hymba{as=kv}, gqa{of=kv}").find("heads of 16 channels") != std::string::npos);
  CHECK(error_of("gqa{as=kv}, hymba{of=kv}").find("heads of 16 and 32 channels") !=
        std::string::npos);
}

}  // namespace braid
