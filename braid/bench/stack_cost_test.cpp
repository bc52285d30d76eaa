#include "braid/bench/stack_cost.h"

#include <doctest/doctest.h>

#include <cmath>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/bench/decode_cost.h"
#include "braid/bench/model.h"
#include "braid/bench/plan.h"
#include "braid/bench/stack_report.h"
#include "braid/infer/generate.h"
#include "braid/layers/mixer.h"
#include "braid/stack/model.h"

namespace braid {
namespace {

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

CostSubject decode_curve(std::string label, std::vector<std::pair<int64_t, double>> points) {
  CostSubject s;
  s.label = std::move(label);
  for (const auto& [length, seconds] : points) {
    CostPoint p;
    p.length = length;
    p.state_bytes = static_cast<size_t>(length);
    p.seconds = {seconds, seconds * 2, seconds};
    s.points[static_cast<int>(CostPhase::kDecode)].push_back(p);
  }
  return s;
}

TEST_CASE("crossovers by hand: on logarithmic scales, both directions, none, a tie") {
  // log ratio goes from +log 2 to -log 2 between 100 and 400: halfway is 200.
  const RatioPoint falls[] = {{100, 2.0}, {400, 0.5}};
  std::vector<Crossover> x = crossovers(falls);
  REQUIRE(x.size() == 1);
  CHECK(x[0].length == doctest::Approx(200));
  CHECK(x[0].to_second);
  const RatioPoint twice[] = {{10, 0.25}, {1000, 4}, {2000, 1}, {4000, 0.5}};
  x = crossovers(twice);
  REQUIRE(x.size() == 2);
  CHECK(x[0].length == doctest::Approx(100));
  CHECK_FALSE(x[0].to_second);
  CHECK(x[1].length == doctest::Approx(2000));
  CHECK(x[1].to_second);
  const RatioPoint never[] = {{10, 1.5}, {100, 1.01}};
  CHECK(crossovers(never).empty());
  CHECK(crossovers({}).empty());
}

TEST_CASE("ratios are taken round by round, at lengths that both have") {
  const CostSubject a = decode_curve("A", {{1024, 1.0}, {4096, 1.0}, {65536, 1.0}});
  const CostSubject b = decode_curve("B", {{1024, 3.0}, {4096, 0.5}});
  const std::vector<RatioPoint> r = cost_ratios(a, b, CostPhase::kDecode);
  REQUIRE(r.size() == 2);
  CHECK(r[0].length == 1024);
  CHECK(r[0].ratio == 3);
  CHECK(r[1].ratio == 0.5);
  StackCosts costs;
  costs.stacks = {a, b};
  const std::vector<CrossoverRow> rows = crossover_rows(costs);
  REQUIRE(rows.size() == 2);  // decode and state; nothing was trained
  CHECK(rows[0].text() == "A, then B from 2396 tokens on");  // 1024 * 4^(log 3 / log 6)
  CHECK(rows[1].text() == "the same up to 4k tokens");
}

TEST_CASE("labels of many stacks") {
  CHECK(stack_label(0) == "A");
  CHECK(stack_label(25) == "Z");
  CHECK(stack_label(26) == "A1");
}

TEST_CASE("measured: every phase, length, stack and layer once a round; counts are plan's") {
  const Context ctx;
  const ModelSettings stacks[] = {bench_settings("2 x (gqa, swiglu)", "prenorm", 32),
                                  bench_settings("gqa, 3 x swiglu", "prenorm", 32)};
  StackCostOptions o;
  o.lengths = {24, 8, 8};
  o.contexts = {40};
  o.rounds = 2;
  int told = 0;
  const StackCosts costs = measure_stacks(ctx, stacks, o, [&](const CostProgress&) { ++told; }, {});
  CHECK(costs.rounds == 2);
  CHECK(told == 6);
  CHECK(costs.left_out.empty());
  REQUIRE(costs.stacks.size() == 2);
  REQUIRE(costs.layers.size() == 2);
  CHECK(costs.layers[0].label == "gqa");
  CHECK(costs.layers[0].used == std::vector<int64_t>{2, 1});
  CHECK(costs.layers[1].used == std::vector<int64_t>{2, 3});
  for (size_t i = 0; i < 2; ++i) {
    const CostSubject& s = costs.stacks[i];
    Model model(ctx, stacks[i]);
    CHECK(s.parameters == model.parameters().trained_count());
    REQUIRE(s.of(CostPhase::kForward).size() == 2);
    CHECK(s.of(CostPhase::kForward)[0].length == 8);
    for (const CostPhase phase : kCostPhases) {
      for (const CostPoint& p : s.of(phase)) {
        CHECK(p.seconds.size() == 2);
        CHECK(p.median_seconds() > 0);
        CHECK(p.median_share() > 0);
        CHECK(p.flops > 0);
      }
    }
    const CostPoint* decode = s.at(CostPhase::kDecode, 40);
    REQUIRE(decode != nullptr);
    CHECK(decode->state_bytes == model.state_bytes(40));
    PlanOptions p;
    p.contexts = {40};
    p.batch = 1;
    p.seq_len = 24;
    const Plan plan = make_plan(stacks[i], p, MachineLimits{});
    CHECK(decode->flops == plan.contexts[0].decode_flops);
    CHECK(s.at(CostPhase::kForward, 24)->flops + s.at(CostPhase::kBackward, 24)->flops ==
          plan.train_flops);
  }
}

TEST_CASE("time that does not suffice leaves the longest lengths out, and they are named") {
  const Context ctx;
  const ModelSettings stacks[] = {bench_settings("gqa", "prenorm", 32)};
  StackCostOptions o;
  o.lengths = {8, 16};
  o.contexts = {};
  o.seconds = 1e-6;
  const StackCosts costs = measure_stacks(ctx, stacks, o, {}, {});
  CHECK(costs.rounds == 1);
  CHECK(costs.left_out == std::vector<std::string>{"forward and backward of 16 tokens"});
  CHECK(costs.stacks[0].of(CostPhase::kForward).size() == 1);
  CHECK(has(stack_cost_table(costs), "left out, --time is short: forward and backward of 16"));
}

TEST_CASE("lengths that a model cannot take are refused with both numbers") {
  const Context ctx;
  ModelSettings s = bench_settings("gqa", "prenorm", 32);
  s.positions = 512;
  StackCostOptions o;
  o.lengths = {1024};
  CHECK_THROWS_WITH_AS(measure_stacks(ctx, {&s, 1}, o, {}, {}),
                       "--lengths has 1024, but a model with 512 learned positions takes at most "
                       "512",
                       Error);
  o.lengths = {0};
  CHECK_THROWS_AS(measure_stacks(ctx, {&s, 1}, o, {}, {}), Error);
}

TEST_CASE("the page is whole, escaped and asks for nothing from outside") {
  StackCosts costs;
  costs.stacks = {decode_curve("A", {{1024, 1.0}, {4096, 2.0}}),
                  decode_curve("B", {{1024, 3.0}, {4096, 0.5}})};
  costs.stacks[0].expression = "a<b>";
  costs.layers = {decode_curve("a | b", {{1024, 1e-5}, {4096, 2e-5}})};
  costs.layers[0].used = {1, 2};
  const std::string page = stack_cost_html(costs);
  CHECK(has(page, "a&lt;b&gt;"));
  for (const char* outside :
       {"http:", "https:", "src=", "url(", "<link", "<script", "@import", "nan", "inf\""}) {
    CAPTURE(outside);
    CHECK_FALSE(has(page, outside));
  }
  CHECK(has(page, "prefers-color-scheme: dark"));
  size_t plots = 0;
  for (size_t at = 0; (at = page.find("role=\"img\"", at)) != std::string::npos; ++at) ++plots;
  CHECK(plots == 4);  // time and state of a token, of stacks and of layers
  CHECK(stack_cost_json(costs).size() == 1 + 2 + 1 + 6 + 2);
}

TEST_CASE("every mixer's state can be filled to a length, and decodes from there") {
  const Context ctx;
  size_t readers = 0;
  for (const LayerType& type : mixer_types()) {
    CAPTURE(type.name);
    std::unique_ptr<Model> made;
    try {
      made = std::make_unique<Model>(
          ctx, bench_settings(format("{}, swiglu", type.name), "prenorm", 64));
    } catch (const Error&) {  // it needs another layer to read
      ++readers;
      continue;
    }
    Model& model = *made;
    SequenceState sequence = synthetic_sequence(ctx, model, 1000);
    size_t bytes = 0;
    for (const std::unique_ptr<LayerState>& s : sequence.layers) bytes += s ? s->bytes() : 0;
    CHECK(bytes == model.state_bytes(1000));
    const int32_t token = 'e';
    advance(ctx, model, sequence, {&token, 1});
    for (int64_t i = 0; i < sequence.logits.count(); ++i) {
      REQUIRE(std::isfinite(sequence.logits.data()[i]));
    }
  }
  CHECK(readers <= 3);  // not everything may hide here
}

}  // namespace
}  // namespace braid
