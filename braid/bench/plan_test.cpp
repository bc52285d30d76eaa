#include "braid/bench/plan.h"

#include <doctest/doctest.h>

#include <fstream>

#include "braid/base/format.h"
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

TEST_CASE("plan: blocks cost the same whether they are counted or written out") {
  PlanOptions o;
  o.contexts = {64, 1024};  // the token decoded after the second begins a page in every layer
  o.batch = 2;
  o.seq_len = 32;
  o.prefill = 600;
  o.threads = 2;
  for (const std::string block :
       {"(gqa, swiglu)", "(kda, swiglu)", "(gqa{window=8}, moe{experts=4,top_k=2})"}) {
    CAPTURE(block);
    std::string all = block;
    for (int i = 1; i < 24; ++i) all += ", " + block;
    const DrySteps counted = dry_steps(settings_of(("24 x " + block).c_str()), o);
    const DrySteps written = dry_steps(settings_of(all.c_str()), o);
    CHECK(counted.prefill_flops == written.prefill_flops);
    CHECK(counted.train_flops == written.train_flops);
    CHECK(counted.train_need.total() == written.train_need.total());
    for (size_t i = 0; i < o.contexts.size(); ++i) {
      const MemoryNeed &one = counted.contexts[i].memory, &other = written.contexts[i].memory;
      CHECK(counted.contexts[i].decode_flops == written.contexts[i].decode_flops);
      CHECK(one.state == other.state);
      CHECK(one.scratch == other.scratch);
    }
  }
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

TEST_CASE("dot products are told of where the processor has what their kernels are compiled for") {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line) && !line.starts_with("flags")) {
  }
  bool offered = true;
  for (const char* flag : {"avx512_vnni", "avx512vbmi", "avx512_vbmi2", "avx512_bitalg",
                           "avx512_vpopcntdq", "vaes", "vpclmulqdq", "gfni"})
    offered = offered && (line + " ").find(format(" {} ", flag)) != std::string::npos;
  CHECK(instructions().vnni == offered);
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
