#include "braid/stack/spec.h"

#include <doctest/doctest.h>

#include "braid/base/error.h"
#include "braid/base/format.h"

namespace braid {
namespace {

// "kda0.0 moe1.0 kda0.1 ...": leaf names with layer and pass of every step.
std::string trace(std::string_view text) {
  const FlatStack flat = flatten(parse_stack(text));
  std::string out;
  for (const FlatStack::Step& step : flat.steps) {
    if (!out.empty()) out += ' ';
    const auto leaf = static_cast<size_t>(flat.layers[static_cast<size_t>(step.layer)]);
    for (const LayerSpec& layer : flat.leaves[leaf].layers) out += layer.name;
    out += format("{}.{}", step.layer, step.pass);
  }
  return out;
}

TEST_CASE("flatten: counts make separate layers") {
  CHECK(trace("a") == "a0.0");
  CHECK(trace("2 x (a, b), c") == "a0.0 b1.0 a2.0 b3.0 c4.0");
  CHECK(trace("2 x (2 x a, b)") == "a0.0 a1.0 b2.0 a3.0 a4.0 b5.0");
  CHECK(trace("a | b, c") == "ab0.0 c1.0");
  CHECK(trace("a + b, 2 x c") == "ab0.0 c1.0 c2.0");
}

TEST_CASE("flatten: loops share layers and count passes") {
  CHECK(trace("loop 3 x a") == "a0.0 a0.1 a0.2");
  CHECK(trace("a, loop 2 x (b, c), d") == "a0.0 b1.0 c2.0 b1.1 c2.1 d3.0");
  CHECK(trace("loop 2 x (2 x a, b)") == "a0.0 a1.0 b2.0 a0.1 a1.1 b2.1");
  CHECK(trace("2 x (loop 2 x a)") == "a0.0 a0.1 a1.0 a1.1");
}

TEST_CASE("flatten: nested loops go on counting") {
  CHECK(trace("loop 2 x (a, loop 2 x b)") == "a0.0 b1.0 b1.1 a0.1 b1.2 b1.3");
  CHECK(trace("loop 2 x (2 x (loop 2 x a))") == "a0.0 a0.1 a1.0 a1.1 a0.2 a0.3 a1.2 a1.3");
}

TEST_CASE("flatten: the limit itself runs, one more does not") {
  const FlatStack flat = flatten(parse_stack("100 x (99 x a, loop 1 x b)"));
  CHECK(flat.steps.size() == 10'000);
  CHECK(flat.layers.size() == 10'000);
  CHECK(flat.leaves.size() == 2);
  StackItem leaf{kMaxSublayers, false, {LayerSpec{"a", {}}}, {}};
  CHECK(count_sublayers(leaf) == kMaxSublayers);
  CHECK_THROWS_AS(flatten(StackSpec{{leaf, leaf}}), Error);
  leaf.count = 0;
  CHECK_THROWS_AS(flatten(StackSpec{{leaf}}), Error);
  leaf.count = INT64_MAX;
  CHECK_THROWS_AS(flatten(StackSpec{{leaf}}), Error);
}

}  // namespace
}  // namespace braid
