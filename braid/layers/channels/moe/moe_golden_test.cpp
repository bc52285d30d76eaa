// Every file of a mixture-of-experts layer in $BRAID_GOLDEN/recurrence (README there): forward,
// input and parameter gradients.

#include <doctest/doctest.h>

#include <cstring>

#include "braid/base/format.h"
#include "braid/formats/safetensors.h"
#include "braid/layers/channel.h"
#include "braid/ops/tape.h"
#include "braid/testing/golden.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

// Where the golden's names keep what braid stores fused.
struct Names {
  std::string prefix, gate_proj, up_proj, down_proj, shared;
};

struct Case {
  Context ctx;
  SafetensorsFile file;
  Names names;
  Options options;
  int64_t experts, ffn, width;

  // "weight" or "grad" of the golden, in the layout of the parameter of that name.
  Tensor stored(const char* what, const std::string& parameter, const Shape& shape) const {
    const std::string prefix = format("{}.{}", what, names.prefix);
    if (parameter == "experts.gate_up_proj" || parameter == "experts.down_proj") {
      Tensor fused = Tensor::empty(ctx, shape);
      float* into = fused.data();
      for (int64_t e = 0; e < experts; ++e) {
        const auto part = [&](const std::string& name) {
          const Tensor t = file.to_f32(ctx, format("{}experts.{}.{}.weight", prefix, e, name));
          std::memcpy(into, t.data(), t.bytes());
          into += t.count();
        };
        if (parameter == "experts.down_proj") {
          part(names.down_proj);
        } else {
          part(names.gate_proj);
          part(names.up_proj);
        }
      }
      REQUIRE(into == fused.data() + fused.count());
      return fused;
    }
    std::string name = parameter;
    if (name.starts_with("shared_expert.")) name.replace(0, 13, names.shared);
    return file.to_f32(ctx, prefix + name).reshape(shape);
  }
};

void run(const Case& c) {
  LayerEnv env;
  env.width = c.width;
  ParameterSet set;
  ParamBuilder params(c.ctx, set, 1);
  const auto layer = find_channel("moe")->make(c.options, env, params);
  set.allocate_grads(c.ctx);
  size_t used = 0;
  for (Parameter& p : set) {
    p.value = c.stored("weight", p.name, p.value.shape());
    used += p.name == "experts.gate_up_proj" ? 2 * c.experts
            : p.name == "experts.down_proj"  ? c.experts
                                             : 1;
  }
  size_t present = 0;
  for (const SafetensorsEntry& e : c.file.entries()) present += e.name.starts_with("weight.");
  CHECK(used == present);
  const auto rows = [&](const char* name) {
    const Tensor t = c.file.to_f32(c.ctx, name);
    return t.reshape({t.count() / c.width, c.width});
  };
  Tensor x = rows("hidden_states");
  Tape tape;
  Context train = c.ctx;
  train.tape = &tape;
  tape.watch(x);
  const Tensor y = layer->forward(train, x, Batch::uniform(1, x.size(0)), {});
  const auto check = [&](const std::string& name, const Tensor& got, const Tensor& want) {
    const double error = testing::worst_error(got, want);
    INFO(name, " differs by ", error, " of its largest value");
    CHECK(error <= 1e-5);
  };
  check("out", y, rows("out"));
  tape.backward(c.ctx, y, rows("d_out"));
  check("grad.hidden_states", tape.grad(x), rows("grad.hidden_states"));
  for (const Parameter& p : set) {
    if (p.role == ParamRole::kBuffer) continue;
    check("grad." + p.name, p.grad, c.stored("grad", p.name, p.value.shape()));
  }
}

// The channel by itself; a whole decoder layer around one is not this test's.
bool is_moe(const SafetensorsFile& file) {
  const auto found = file.metadata().find("layer");
  if (found == file.metadata().end()) return false;
  return found->second.find("MoE") != std::string::npos &&
         found->second.find("decoder layer") == std::string::npos;
}

}  // namespace

TEST_CASE("golden: mixture-of-experts layers") {
  int ran = 0;
  for (const std::string& path : testing::golden_files("recurrence")) {
    INFO(path);
    Case c{Context{}, SafetensorsFile::open(path), {}, {}, 0, 0, 0};
    if (!is_moe(c.file)) continue;
    const auto number = [&](const char* key) { return c.file.metadata(key); };
    c.width = std::stoll(number("hidden_size"));
    c.ffn = std::stoll(number("moe_intermediate_size"));
    c.experts = std::stoll(number("num_experts"));
    c.options.set("experts", number("num_experts"));
    c.options.set("ffn", number("moe_intermediate_size"));
    const std::string& layer = c.file.metadata("layer");
    std::string gate;
    for (const SafetensorsEntry& e : c.file.entries()) {
      if (e.name.starts_with("weight.") && e.name.ends_with(".gate.weight")) gate = e.name;
    }
    REQUIRE(!gate.empty());
    const size_t end = gate.size() - std::strlen("gate.weight"), start = std::strlen("weight.");
    c.names.prefix = gate.substr(start, end - start);
    if (layer.starts_with("qwen3_next")) {
      c.names.gate_proj = "gate_proj";
      c.names.up_proj = "up_proj";
      c.names.down_proj = "down_proj";
      c.names.shared = "shared_expert";
      c.options.set("top_k", number("num_experts_per_tok"));
      c.options.set("renormalise", number("norm_topk_prob") == "True" ? "true" : "false");
      c.options.set("shared", number("shared_expert_intermediate_size"));
      c.options.set("shared_gate", "true");
      c.options.set("balance", "none");
    } else if (layer.starts_with("kimi_linear")) {
      c.names.gate_proj = "w1";
      c.names.up_proj = "w3";
      c.names.down_proj = "w2";
      c.names.shared = "shared_experts";
      c.options.set("top_k", number("num_experts_per_token"));
      c.options.set("router", "sigmoid");
      c.options.set("scale", number("routed_scaling_factor"));
      c.options.set("shared", std::to_string(c.ffn * std::stoll(number("num_shared_experts"))));
    } else {
      FAIL_CHECK("no test runs the layer ", layer);
      continue;
    }
    run(c);
    ++ran;
  }
  MESSAGE(ran, " mixture-of-experts files ran");
  CHECK(ran > 0);
}

}  // namespace braid
