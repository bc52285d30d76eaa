// MiniMax-M2: full attention, one norm over all heads of q and k, a sigmoid router whose correction
// bias stands beside the router.

#include "braid/base/format.h"
#include "braid/importers/common.h"

namespace braid {
namespace {

// How much of a head turns must be said, in one of three places.
RopeSettings read_positions(ConfigReader& c, int64_t head_dim) {
  const Json* parameters = c.find("rope_parameters");
  const bool told = parameters != nullptr && parameters->is_object() &&
                    parameters->find("partial_rotary_factor") != nullptr;
  if (!told) c.require_given({"rotary_dim", "partial_rotary_factor"});
  return read_partial_rope(c, {.theta = 5e6, .max_positions = 196608}, head_dim);
}

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.width = 3072, .layers = 62, .vocab = 200064, .max_positions = 196608}, m);
  m.spare_layers = true;
  c.require_text("hidden_act", {"silu"});
  GqaSettings gqa;
  read_heads(c, {.heads = 48, .kv_heads = 8, .head_dim = 128}, m, gqa);
  gqa.rope = read_positions(c, gqa.head_dim);
  c.require_text("qk_norm_type", {"per_layer"});
  gqa.qk_norm = c.boolean("use_qk_norm", true) ? "full" : "none";
  for (const int64_t kind : c.integers("attn_type_list"))
    if (kind != 1)
      c.fail(format("attn_type_list holds {}; all layers are full attention (1)", kind));
  read_layer_types(c, m.layers, {"full_attention"});
  if (c.integer("shared_intermediate_size", 0) != 0)
    c.fail("shared_intermediate_size is not 0; shared experts are not known for minimax_m2");
  for (const char* key :
       {"layernorm_full_attention_beta", "layernorm_linear_attention_beta", "layernorm_mlp_beta"}) {
    if (c.real(key, 1) != 1) c.fail(format("{} is not 1", key));
  }
  c.require_integer("sliding_window", 0);
  // Of layers that this model does not have; norm_topk_prob is true whatever a file says.
  c.ignore({"mlp_intermediate_size", "shared_moe_mode", "norm_topk_prob"});
  MoeSettings moe;
  read_experts(c, 256, 8, c.integer("intermediate_size", 1536), moe);
  c.require_text("scoring_func", {"sigmoid"});
  moe.sigmoid = true;
  moe.correction_bias = c.boolean("use_routing_bias", true);
  set_stack(
      m, [&](int64_t) { return gqa_layer(gqa, m.settings); },
      [&](int64_t) { return moe_layer(moe); });
  m.table = base_table();
  append(m.table, gqa_rows());
  m.table.push_back({"channel.moe.gate.e_score_correction_bias",
                     "block_sparse_moe.e_score_correction_bias", copied(), ""});
  append(m.table, moe_rows("block_sparse_moe.", "w1", "w3", "w2", ""));
  return m;
}

}  // namespace

Family family_minimax_m2() { return {"minimax_m2", {"minimax_m2"}, read}; }

}  // namespace braid
