#include "braid/bench/plan.h"

#include <doctest/doctest.h>

#include "braid/layers/mixer.h"
#include "braid/stack/model.h"

namespace braid {
namespace {

ModelSettings settings_of(const char* stack) {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = 64;
  s.head_dim = 16;
  s.vocab = 512;
  return resolved(s);
}

}  // namespace

TEST_CASE("plan: the list of parameters has what train matches names with") {
  PlanOptions o;
  o.weights = WeightType::kQ4Min;
  const Plan p = list_plan(settings_of("gqa, moe{experts=4,top_k=2,ffn=32}"), o);
  const auto find = [&](const std::string& name) {
    for (const PlanParameter& one : p.list)
      if (one.name == name) return one;
    FAIL("no parameter " << name);
    return PlanParameter{};
  };
  const PlanParameter q = find("layers.0.gqa.q_proj.weight");
  CHECK(q.shape.str() == "[64, 64]");
  CHECK(q.type == WeightType::kQ4);
  CHECK(find("norm.weight").trained);
  CHECK_FALSE(find("layers.1.moe.gate.e_score_correction_bias").trained);
  CHECK(parameters_json(p).at("parameters").size() == p.list.size());
  CHECK(parameters_text(p).find("layers.0.gqa.q_proj.weight") != std::string::npos);
  // And says why four bits with minima were not to be had.
  CHECK(type_shares_text(p.types, o.weights).find("no multiple of 256") != std::string::npos);
  CHECK(type_shares_text(p.types, WeightType::kQ4).find("256") == std::string::npos);
}

TEST_CASE("the instructions of this process are one line and one object") {
  const Instructions i = instructions();
  const Json json = instructions_json(i);
  CHECK(json.at("vectors").as_string() == i.vectors);
  CHECK(instructions_text(i).find(i.vectors) == 0);
  CHECK(json.at("tile_bf16_gflops").is_null());
  Instructions tiles = i;
  for (const auto& [state, text, name] :
       {std::tuple(Instructions::Tiles::kNone, "no matrix tiles", "none"),
        {Instructions::Tiles::kOff, "off by BRAID_AMX=0", "off"},
        {Instructions::Tiles::kOn, "tiles on: bf16 peak 1000 GFLOP/s", "on"}}) {
    tiles.tiles = state;
    tiles.tile_bf16_gflops = 1000;
    CHECK(instructions_text(tiles).find(text) != std::string::npos);
    CHECK(instructions_json(tiles).at("tiles").as_string() == name);
  }
}

}  // namespace braid
