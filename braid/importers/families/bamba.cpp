// Bamba and Granite 4 (granitemoehybrid): Mamba-2 with a few layers of attention. Granite scales
// embeddings, residuals, scores and logits, and adds a shared feed-forward layer to its experts.

#include <algorithm>
#include <cmath>

#include "braid/base/format.h"
#include "braid/importers/common.h"

namespace braid {
namespace {

Mamba2Settings read_mamba2(ConfigReader& c, int64_t width) {
  const int64_t inner = c.integer("mamba_expand", 2, 1 << 10) * width;
  Mamba2Settings m = read_bamba_mamba2(c, inner, "mamba_expand");
  m.norm_groups = 1;  // the class's gated norm is over all channels, whatever the groups
  c.ignore({"z_loss_coefficient", "num_logits_to_keep", "init_method", "use_mamba_kernels"});
  return m;
}

// By their numbers, and in what the class makes of these.
std::vector<bool> read_attends(ConfigReader& c, int64_t layers) {
  const std::vector<int64_t> listed = c.integers("attn_layer_indices");
  const std::vector<std::string> types =
      read_layer_types(c, layers, {"linear_attention", "full_attention"});
  std::vector<bool> out(static_cast<size_t>(layers));
  for (size_t i = 0; i < out.size(); ++i) {
    const bool attends = std::find(listed.begin(), listed.end(), i) != listed.end();
    out[i] = types.empty() ? attends : types[i] == "full_attention";
    if (out[i] != attends && c.has("attn_layer_indices"))
      c.fail(format("attn_layer_indices and layer_types differ in layer {}", i));
  }
  return out;
}

FamilyModel read_bamba(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.vocab = 128000, .max_positions = 262144, .eps = 1e-5}, m);
  c.require_text("hidden_act", {"silu"});
  GqaSettings gqa;
  read_heads(c, {.kv_heads = 8}, m, gqa);
  gqa.rope = read_rope(c, {.partial = 0.5, .max_positions = 262144});
  const int64_t turned = c.integer("attn_rotary_emb", gqa.head_dim / 2);
  if (gqa.rope.partial != 0.5 || 2 * turned != gqa.head_dim)
    c.fail(
        format("partial_rotary_factor is {}, attn_rotary_emb {}; the class turns half of the {} "
               "channels of a head",
               gqa.rope.partial, turned, gqa.head_dim));
  gqa.bias = c.boolean("attention_bias", false) ? "qkvo" : "none";
  const Mamba2Settings mamba = read_mamba2(c, m.settings.width);
  const std::vector<bool> attends = read_attends(c, m.layers);
  const LayerSpec channel =
      swiglu_layer(c.integer("intermediate_size", 14336), "silu", c.boolean("mlp_bias", false));
  set_stack(
      m,
      [&](int64_t i) {
        return attends[static_cast<size_t>(i)] ? gqa_layer(gqa, m.settings)
                                               : mamba2_layer(mamba, m.settings.width);
      },
      [&](int64_t) { return channel; });
  m.table = {{"norm.weight", "{P}final_layernorm.weight", copied(), ""},
             {"channel.swiglu.*", "feed_forward.*", copied(), ""}};
  append(m.table, mamba2_rows(mamba, "mamba."));
  append(m.table, base_table("input_layernorm", "pre_ff_layernorm"));
  append(m.table, gqa_rows());
  return m;
}

// The feed-forward layer: experts and a shared one, or the shared one alone.
LayerSpec read_granite_channel(ConfigReader& c, std::vector<TensorRow>& table) {
  const int64_t shared = c.integer("shared_intermediate_size", 1024);
  const int64_t ffn = c.integer("intermediate_size", 11008);
  if (shared < 1) c.fail("shared_intermediate_size is 0");
  const bool sparse = c.integer("num_local_experts", 8, 1 << 16) > 0;
  const std::string own = sparse ? "channel.moe.shared_expert." : "channel.swiglu.";
  append(table, {{own + "gate_proj.weight", "shared_mlp.input_linear.weight",
                  part_of({shared, shared}, 0), ""},
                 {own + "up_proj.weight", "shared_mlp.input_linear.weight",
                  part_of({shared, shared}, 1), ""},
                 {own + "down_proj.weight", "shared_mlp.output_linear.weight", copied(), ""}});
  if (!sparse) {
    c.ignore({"num_experts_per_tok"});
    return swiglu_layer(shared);
  }
  const std::string experts = "block_sparse_moe.";
  append(table,
         {{"channel.moe.gate.weight", experts + "router.layer.weight", copied(), ""},
          {"channel.moe.experts.gate_up_proj", experts + "input_linear.weight", copied(), ""},
          {"channel.moe.experts.down_proj", experts + "output_linear.weight", copied(), ""}});
  MoeSettings moe;
  read_experts(c, 8, 2, ffn, moe);
  moe.shared = shared;
  return moe_layer(moe);  // a softmax of the chosen logits is one of all, renormalised
}

FamilyModel read_granite(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {}, m);
  c.require_text("hidden_act", {"silu"});
  c.require_text("normalization_function", {"rmsnorm"});
  c.require_text("position_embedding_type", {"rope", "nope"});
  m.settings.embedding_scale = read_multiplier(c, "embedding_multiplier");
  m.settings.logit_scale = 1 / read_multiplier(c, "logits_scaling");
  OptionList residual;
  residual.add("scale", read_multiplier(c, "residual_multiplier"), 1.0);
  m.settings.residual = residual.layer("prenorm");
  GqaSettings gqa;
  read_heads(c, {}, m, gqa);
  gqa.scale = read_multiplier(c, "attention_multiplier");
  if (gqa.scale == 1 / std::sqrt(static_cast<double>(gqa.head_dim))) gqa.scale = 0;  // the default
  gqa.bias = c.boolean("attention_bias", false) ? "qkvo" : "none";
  if (c.text("position_embedding_type", "nope") == "rope") {
    gqa.rope = read_rope(c, {});
  } else {
    gqa.rope.on = false;
    c.ignore({"rope_theta", "rope_scaling", "rope_parameters"});
  }
  const Mamba2Settings mamba = read_mamba2(c, m.settings.width);
  const std::vector<std::string> types =
      read_layer_types(c, m.layers, {"linear_attention", "full_attention"});
  const LayerSpec channel = read_granite_channel(c, m.table);
  set_stack(
      m,
      [&](int64_t i) {
        const bool attends = !types.empty() && types[static_cast<size_t>(i)] == "full_attention";
        return attends ? gqa_layer(gqa, m.settings) : mamba2_layer(mamba, m.settings.width);
      },
      [&](int64_t) { return channel; });
  append(m.table, mamba2_rows(mamba, "mamba."));
  append(m.table, base_table());
  append(m.table, gqa_rows());
  return m;
}

}  // namespace

Family family_bamba() { return {"bamba", {"bamba"}, read_bamba}; }
Family family_granitemoehybrid() {
  return {"granitemoehybrid", {"granitemoehybrid"}, read_granite};
}

}  // namespace braid
