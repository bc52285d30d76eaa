// gpt-oss: sinks, windows on every other layer, biases everywhere, clamped activation. Experts are
// [E, in, out] with gate and up in turn; as released, in MXFP4, [E, out, in].

#include "braid/importers/common.h"

namespace braid {
namespace {

// Without a word the class stretches positions; what a null means depends on its release.
RopeSettings read_positions(ConfigReader& c) {
  const RopeDefaults defaults{.theta = 150000, .max_positions = 131072};
  RopeSettings rope = read_rope(c, defaults);
  if (c.has("rope_scaling") || c.has("rope_parameters")) return rope;
  if (c.explicit_null("rope_scaling") || c.explicit_null("rope_parameters"))
    c.fail("rope_scaling or rope_parameters is null, which releases of the class read differently");
  const Json yarn = Json::parse(R"({"rope_type": "yarn", "factor": 32, "truncate": false,
                                    "original_max_position_embeddings": 4096})");
  rope.scaling = rope_scaling_text(c, yarn, static_cast<double>(defaults.max_positions), nullptr);
  return rope;
}

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(
      c, {.width = 2880, .layers = 36, .vocab = 201088, .max_positions = 131072, .eps = 1e-5}, m);
  c.require_text("hidden_act", {"silu"});
  GqaSettings gqa;
  read_heads(c, {.heads = 64, .kv_heads = 8, .head_dim = 64}, m, gqa);
  gqa.rope = read_positions(c);
  gqa.bias = c.boolean("attention_bias", true) ? "qkvo" : "none";
  gqa.sinks = true;
  const int64_t window = c.explicit_null("sliding_window") ? 0 : c.integer("sliding_window", 128);
  const std::vector<std::string> types =
      read_layer_types(c, m.layers, {"full_attention", "sliding_attention"});
  MoeSettings moe;
  read_experts(c, 128, 4, c.integer("intermediate_size", 2880), moe);
  moe.router_bias = moe.expert_bias = moe.clamped = true;
  moe.limit = c.real("swiglu_limit", 7);
  moe.alpha = c.real("swiglu_alpha", 1.702);
  c.ignore({"initial_context_length"});  // rope_scaling says it again
  const auto mixer = [&](int64_t i) {
    const bool slides =
        types.empty() ? i % 2 == 0 : types[static_cast<size_t>(i)] == "sliding_attention";
    gqa.window = slides ? window : 0;
    return gqa_layer(gqa, m.settings);
  };
  set_stack(m, mixer, [&](int64_t) { return moe_layer(moe); });
  m.table = base_table();
  append(m.table, gqa_rows());
  append(m.table,
         {{"channel.moe.gate.*", "mlp.router.*", copied(), ""},
          {"channel.moe.experts.gate_up_proj", "mlp.experts.gate_up_proj",
           interleaved(moe.experts, true), ""},
          {"channel.moe.experts.gate_up_proj_bias", "mlp.experts.gate_up_proj_bias",
           interleaved_elements(moe.experts), ""},
          {"channel.moe.experts.down_proj", "mlp.experts.down_proj", transposed(), ""},
          {"channel.moe.experts.down_proj_bias", "mlp.experts.down_proj_bias", copied(), ""}});
  return m;
}

}  // namespace

Family family_gpt_oss() { return {"gpt_oss", {"gpt_oss"}, read}; }

}  // namespace braid
