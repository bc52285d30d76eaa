// GLM-4.5 and 4.6: partial rotary, sigmoid router, one shared expert, the first layers dense.

#include "braid/importers/common.h"

namespace braid {
namespace {

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.layers = 46, .vocab = 151552, .max_positions = 131072, .eps = 1e-5}, m);
  m.spare_layers = true;
  c.require_text("hidden_act", {"silu"});
  GqaSettings gqa;
  read_heads(c, {.heads = 96, .kv_heads = 8}, m, gqa);
  gqa.rope = read_rope(c, {.partial = 0.5, .max_positions = 131072});
  gqa.bias = c.boolean("attention_bias", false) ? "qkv" : "none";
  gqa.qk_norm = c.boolean("use_qk_norm", false) ? "head" : "none";
  MoeSettings moe;
  read_experts(c, 128, 8, c.integer("moe_intermediate_size", 1408), moe);
  read_sigmoid_router(c, {.groups = 1, .topk_groups = 1, .scale = 1}, moe);
  const int64_t first = c.integer("first_k_dense_replace", 1);
  const int64_t dense = c.integer("intermediate_size", 10944);
  read_layer_types(c, m.layers, {"full_attention"});
  const std::vector<std::string> kinds = read_mlp_layer_types(c, m.layers);
  set_stack(
      m, [&](int64_t) { return gqa_layer(gqa, m.settings); },
      [&](int64_t i) {
        const bool sparse = kinds.empty() ? i >= first : kinds[static_cast<size_t>(i)] == "sparse";
        return sparse ? moe_layer(moe) : swiglu_layer(dense);
      });
  m.table = base_table();
  append(m.table, gqa_rows());
  append(m.table, swiglu_rows());
  append(m.table, moe_rows());
  return m;
}

}  // namespace

Family family_glm4_moe() { return {"glm4_moe", {"glm4_moe"}, read}; }

}  // namespace braid
