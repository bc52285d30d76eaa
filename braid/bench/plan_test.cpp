#include "braid/bench/plan.h"

#include <doctest/doctest.h>

#include "braid/base/clock.h"
#include "braid/bench/plan_steps.h"
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

// A machine where only reading takes time.
MachineLimits reader() {
  MachineLimits m;
  m.peak_gflops = 1e12;
  m.read_gbs = m.read_write_gbs = 1;
  return m;
}

Plan plan_of(const char* stack, std::vector<int64_t> contexts) {
  PlanOptions o;
  o.contexts = std::move(contexts);
  o.batch = 1;
  o.seq_len = 16;
  o.prefill = 16;
  return make_plan(settings_of(stack), o, reader());
}

}  // namespace

TEST_CASE("plan: the time of a token is that of what it reads, not of all that is kept") {
  const Plan p = plan_of("dsa{index_topk=64,index_head_dim=16,index_n_heads=2}, swiglu", {65536});
  const PlanContext& c = p.contexts[0];
  CHECK(c.state_read_bytes < c.state_bytes / 2);
  CHECK(read_bytes(p, c) == p.token_weight_bytes + c.state_read_bytes);
  CHECK(c.decode_seconds == doctest::Approx(static_cast<double>(read_bytes(p, c)) * 1e-9));
  const Json json = plan_json(p, {}).at("contexts").elements()[0];
  CHECK(json.at("state_read_bytes").as_int() == static_cast<int64_t>(c.state_read_bytes));
  CHECK(json.at("read_bytes").as_int() == static_cast<int64_t>(read_bytes(p, c)));
  // What is recurrent is written back as well.
  const Plan r = plan_of("kda", {65536});
  CHECK(r.contexts[0].decode_seconds ==
        doctest::Approx(static_cast<double>(r.token_weight_bytes + 2 * r.recurrent_bytes) * 1e-9));
}

TEST_CASE("plan: a few repeats of a block tell what many cost, to the last byte") {
  PlanOptions o;
  o.contexts = {100, 1500};
  o.batch = 2;
  o.seq_len = 32;
  o.prefill = 600;
  o.threads = 2;
  for (const char* stack :
       {"12 x (gqa, swiglu)", "3 x (4 x (kda, swiglu)), gqa", "gqa, 9 x (mamba2, mla), swiglu",
        "10 x (gqa{window=8}, moe{experts=4,top_k=2}, rwkv7, cmix)", "9 x (gqa | mamba2)",
        "gqa{as=kv}, 9 x (gqa{of=kv}, swiglu)", "9 x (loop 2 x (gqa, swiglu))"}) {
    CAPTURE(stack);
    const DrySteps few = dry_steps(settings_of(stack), o);
    const DrySteps all = dry_steps_of_all(settings_of(stack), o);
    CHECK(few.prefill_flops == all.prefill_flops);
    CHECK(few.train_flops == all.train_flops);
    CHECK(few.train_need.weights == all.train_need.weights);
    CHECK(few.train_need.gradients == all.train_need.gradients);
    CHECK(few.train_need.optimizer == all.train_need.optimizer);
    CHECK(few.train_need.activations == all.train_need.activations);
    for (size_t i = 0; i < o.contexts.size(); ++i) {
      CHECK(few.contexts[i].decode_flops == all.contexts[i].decode_flops);
      CHECK(few.contexts[i].memory.weights == all.contexts[i].memory.weights);
      CHECK(few.contexts[i].memory.state == all.contexts[i].memory.state);
      CHECK(few.contexts[i].memory.scratch == all.contexts[i].memory.scratch);
      CHECK(few.contexts[i].memory.process == all.contexts[i].memory.process);
    }
  }
  // Where repeats add more and more, all are stepped.
  ModelSettings deep = settings_of("9 x (gqa, swiglu)");
  deep.residual = parse_named("attnres", "residual");
  CHECK(dry_steps(deep, o).prefill_flops == dry_steps_of_all(deep, o).prefill_flops);
}

TEST_CASE("plan: the deepest stack takes hardly longer than a deep one") {
  const auto seconds = [](const char* stack) {
    const double start = now_seconds();
    dry_steps(settings_of(stack), {});
    return now_seconds() - start;
  };
  CHECK(seconds("10000 x (gqa)") < 10 * seconds("10 x (gqa)"));
}

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
  CHECK(q.init == "normal(0, 0.02)");
  CHECK(find("norm.weight").init == "ones");
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
