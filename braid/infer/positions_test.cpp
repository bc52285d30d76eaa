#include "braid/infer/positions.h"

#include <doctest/doctest.h>

namespace braid {
namespace {

Model dry_model(const char* stack, int64_t made_for) {
  Context dry;
  dry.arena = Arena::create(Arena::Mode::kDry);
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = 64;
  s.heads = 4;
  s.max_position_embeddings = made_for;
  return Model(dry, s, Model::Fill::kDeferred);
}

constexpr const char* kStack =
    "2 x (2 x (gqa{window=8}, swiglu), gqa{rope_theta=5e5,rope_scaling=yarn:4:32:32:1:true:1.1,"
    "rotary=0.5}, swiglu), kda, swiglu, gqa{rope=false} + mamba2{head_dim=16}, swiglu";

TEST_CASE("what attends in one way is one entry, linear layers are none") {
  const Model model = dry_model(kStack, 128);
  const std::vector<PositionLayers> p = position_layers(model);
  REQUIRE(p.size() == 3);
  CHECK(p[0] == PositionLayers{"gqa", 4, true, 10000, 1, "", 8});
  CHECK(p[1] == PositionLayers{"gqa", 2, true, 5e5, 0.5, "yarn:4:32:32:1:true:1.1", 0});
  CHECK(p[2] == PositionLayers{"gqa", 1, false, 0, 1, "", 0});
  CHECK(window_pattern(model) == "2 x (2 x window8, full), full");
}

TEST_CASE("what a mixer does without options is its own default") {
  for (const PositionLayers& p : attending_mixers()) {
    CAPTURE(p.name);
    // An option at its default is left out of a layer's options.
    std::string stack = p.name + (p.rope ? "{rope=true,rope_theta=10000" : "{rope=false");
    if (p.name == "nsa") stack += ",window=512";
    const Model model = dry_model((stack + "}, swiglu").c_str(), 0);
    CHECK(model.canonical_stack().starts_with(p.name + ","));
    const std::vector<PositionLayers> found = position_layers(model);
    REQUIRE(found.size() == 1);
    CHECK(found[0].rope == p.rope);
    CHECK(found[0].window == p.window);
  }
}

TEST_CASE("contexts beyond what the model was made for are named with both numbers") {
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != text.npos;
  };
  const Model yarn = dry_model(kStack, 128);
  CHECK(beyond_trained(yarn, 128).empty());
  const std::string why = beyond_trained(yarn, 129);
  CHECK(has(why, "129 tokens, but the model was made for 128 (max_position_embeddings)"));
  CHECK(has(why, "its rope scaling (yarn, 4 times from 32)"));
  CHECK(has(beyond_trained(dry_model("gqa, swiglu", 16), 17), "no rope scaling"));
  CHECK(has(beyond_trained(dry_model("kda, swiglu", 16), 17), "no layer has rotary positions"));
  CHECK(beyond_trained(dry_model("gqa, swiglu", 0), 1 << 20).empty());
}

TEST_CASE("scalings in words") {
  CHECK(rope_scaling_words("") == "none");
  CHECK(rope_scaling_words("linear:8") == "linear, 8 times");
  CHECK(rope_scaling_words("llama3:8:1:4:8192") == "llama3, 8 times from 8192");
  CHECK(rope_scaling_words("dynamic:2:4096") == "dynamic, 2 times from 4096");
  CHECK(rope_scaling_words("longrope:4096:1.19:1:2:1:2") == "longrope, from 4096");
}

}  // namespace
}  // namespace braid
