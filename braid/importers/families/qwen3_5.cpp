// Qwen3.5, text part: Qwen3-Next's layers with plain projections, and experts in one tensor.

#include "braid/importers/families/qwen_linear.h"

namespace braid {
namespace {

// Sections of mrope are the same position for text.
FamilyModel read_common(ConfigReader& c, const LayerSpec& channel, int64_t kv_heads,
                        FamilyModel m) {
  const QwenLinear q = read_qwen_linear(c, m, kv_heads);
  if (!c.integers("mlp_only_layers").empty()) c.fail("mlp_only_layers is not empty");
  set_stack(
      m, [&](int64_t i) { return q.mixer(i, m.settings); }, [&](int64_t) { return channel; });
  m.table = base_table();
  append(m.table, gqa_rows());
  m.table.push_back({"mixer.gdn.*", "linear_attn.*", copied(), ""});
  if (c.nested()) m.prefix = "model.language_model.";
  return m;
}

FamilyModel read_dense(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.layers = 32, .vocab = 248320, .max_positions = 32768}, m);
  m = read_common(c, swiglu_layer(c.integer("intermediate_size", 12288)), 4, std::move(m));
  append(m.table, swiglu_rows());
  return m;
}

FamilyModel read_moe(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.width = 2048, .layers = 40, .vocab = 248320, .max_positions = 32768}, m);
  MoeSettings moe;
  read_experts(c, 256, 8, c.integer("moe_intermediate_size", 512), moe);
  c.require_boolean("norm_topk_prob", true);  // the class does so unasked
  c.require_integer("decoder_sparse_step", 1);
  c.ignore({"intermediate_size"});  // of dense layers, and there are none
  moe.shared = c.integer("shared_expert_intermediate_size", 512);
  moe.shared_gate = moe.shared > 0;
  m = read_common(c, moe_layer(moe), 2, std::move(m));
  append(m.table, stacked_expert_rows());  // one by one in its FP8 checkpoints
  append(m.table, moe_rows("mlp.", "gate_proj", "up_proj", "down_proj", "shared_expert"));
  return m;
}

}  // namespace

Family family_qwen3_5() { return {"qwen3_5", {"qwen3_5", "qwen3_5_text"}, read_dense}; }
Family family_qwen3_5_moe() {
  return {"qwen3_5_moe", {"qwen3_5_moe", "qwen3_5_moe_text"}, read_moe};
}

}  // namespace braid
