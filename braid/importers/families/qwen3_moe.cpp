// Qwen3 with experts: softmax over all, no shared expert.

#include "braid/importers/common.h"

namespace braid {
namespace {

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.width = 2048, .layers = 24, .vocab = 151936, .max_positions = 32768}, m);
  c.require_text("hidden_act", {"silu"});
  GqaSettings gqa;
  read_heads(c, {.kv_heads = 4}, m, gqa);
  gqa.rope = read_rope(c, {.max_positions = 32768});
  gqa.qk_norm = "head";
  gqa.bias = c.boolean("attention_bias", false) ? "qkvo" : "none";
  const std::vector<int64_t> windows = qwen_windows(c, m.layers);
  MoeSettings moe;
  read_experts(c, 128, 8, c.integer("moe_intermediate_size", 768), moe);
  moe.renormalise = c.boolean("norm_topk_prob", false);
  const std::vector<bool> sparse = qwen_sparse_layers(c, m.layers);
  const int64_t dense = c.integer("intermediate_size", 6144);
  const auto mixer = [&](int64_t i) {
    gqa.window = windows[static_cast<size_t>(i)];
    return gqa_layer(gqa, m.settings);
  };
  set_stack(m, mixer, [&](int64_t i) {
    return sparse[static_cast<size_t>(i)] ? moe_layer(moe) : swiglu_layer(dense);
  });
  m.table = base_table();
  append(m.table, gqa_rows());
  append(m.table, swiglu_rows());
  append(m.table, moe_rows("mlp.", "gate_proj", "up_proj", "down_proj", ""));
  return m;
}

}  // namespace

Family family_qwen3_moe() { return {"qwen3_moe", {"qwen3_moe"}, read}; }

}  // namespace braid
