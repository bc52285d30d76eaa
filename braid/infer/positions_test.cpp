#include "braid/infer/positions.h"

#include <doctest/doctest.h>

#include "braid/layers/mixer.h"

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
  CHECK(p[0] == PositionLayers{"gqa", 4, {true, 10000, 1, "", 8}});
  CHECK(p[1] == PositionLayers{"gqa", 2, {true, 5e5, 0.5, "yarn:4:32:32:1:true:1.1", 0}});
  CHECK(p[2] == PositionLayers{"gqa", 1, {false, 0, 1, "", 0}});
  CHECK(window_pattern(model) == "2 x (2 x window8, full), full");
}

TEST_CASE("every mixer whose state grows says how it attends, no other does") {
  for (const LayerType& mixer : mixer_types()) {
    CAPTURE(mixer.name);
    // A memory unit gates what a scan before it publishes.
    const bool reads = std::string_view(mixer.name) == "gmu";
    const Model model = dry_model(
        reads ? "mamba{as=m}, gmu{of=m}, swiglu" : (std::string(mixer.name) + ", swiglu").c_str(),
        0);
    const bool grows = model.state_bytes(1 << 16, {}) > model.state_bytes(1, {});
    CHECK(attending_layers(model).size() == (grows ? 1 : 0));
  }
}

TEST_CASE("what a mixer does without options is its own default") {
  const auto how = [](const char* stack) {
    const std::vector<PositionLayers> found = position_layers(dry_model(stack, 0));
    REQUIRE(found.size() == 1);
    return found[0].how;
  };
  for (const char* name : {"gqa", "mla", "dsa", "hymba", "diff", "moba"}) {
    CAPTURE(name);
    CHECK(how((std::string(name) + ", swiglu").c_str()) ==
          AttendedPositions{true, 10000, 1, "", 0});
    CHECK(how((std::string(name) + "{rope=false}, swiglu").c_str()) ==
          AttendedPositions{false, 0, 1, "", 0});
    CHECK(how((std::string(name) + "{rope_theta=5e5}, swiglu").c_str()).theta == 5e5);
  }
  CHECK(how("nsa, swiglu") == AttendedPositions{true, 10000, 1, "", 512});
  CHECK(how("fox, swiglu") == AttendedPositions{false, 0, 1, "", 0});
  CHECK(how("mla{rope_scaling=linear:4}, swiglu").scaling == "linear:4");
}

TEST_CASE("a reader sees as far as the keys and values that it reads") {
  const std::vector<PositionLayers> p =
      position_layers(dry_model("gqa{window=8,as=kv}, swiglu, gqa{of=kv}, swiglu", 0));
  REQUIRE(p.size() == 1);
  CHECK(p[0].layers == 2);
  CHECK(p[0].how.window == 8);
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
