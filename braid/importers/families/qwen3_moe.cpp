// Qwen3 with experts: softmax over all, no shared expert.

#include <algorithm>

#include "braid/importers/common.h"

namespace braid {
namespace {

// The class has no layers that slide and others that do not, its first releases had.
int64_t read_window(ConfigReader& c, int64_t layers) {
  const std::vector<int64_t> windows = qwen_windows(c, layers, 0);
  const bool slides = c.boolean("use_sliding_window", false) && !c.explicit_null("sliding_window");
  if (slides && std::find(windows.begin(), windows.end(), 0) != windows.end())
    c.fail("use_sliding_window is true, and max_window_layers or layer_types except some layers");
  return windows.front();
}

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.width = 2048, .layers = 24, .vocab = 151936, .max_positions = 32768}, m);
  c.require_text("hidden_act", {"silu"});
  GqaSettings gqa;
  read_heads(c, {.kv_heads = 4}, m, gqa);
  gqa.rope = read_rope(c, {.max_positions = 32768});
  gqa.qk_norm = "head";
  gqa.bias = c.boolean("attention_bias", false) ? "qkvo" : "none";
  c.require_boolean("qkv_bias", false);  // this and the next two are Qwen3-Coder's
  c.require_boolean("use_qk_norm", true);
  c.require_integer("shared_expert_intermediate_size", 0);
  gqa.window = read_window(c, m.layers);
  MoeSettings moe;
  read_experts(c, 128, 8, c.integer("moe_intermediate_size", 768), moe);
  moe.renormalise = c.boolean("norm_topk_prob", false);
  const std::vector<bool> sparse = qwen_sparse_layers(c, m.layers);
  const int64_t dense = c.integer("intermediate_size", 6144);
  set_stack(
      m, [&](int64_t) { return gqa_layer(gqa, m.settings); },
      [&](int64_t i) {
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
