// Falcon-H1 (arXiv 2507.22448): every layer runs attention and Mamba-2 side by side and adds them.
//
// Its muP multipliers are constants of the model, not folded into weights, which would round them
// again and keep them from being mapped, quantised as they are and written back. Embeddings and
// logits have settings. Attention's input multiplier a reaches queries, keys and values, so the
// scores take a^2 and the output a; key_multiplier joins the scores. Mamba-2's input multiplier
// joins those of its projection's five parts.

#include <algorithm>
#include <cmath>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/importers/common.h"

namespace braid {
namespace {

// A list of `count` multipliers, all 1 when absent.
std::vector<double> read_multipliers(ConfigReader& c, const char* key, size_t count) {
  const Json* list = c.find(key);
  if (list == nullptr) return std::vector<double>(count, 1.0);
  std::vector<double> out;
  if (list->is_array()) {
    for (const Json& v : list->elements())
      if (v.is_number() && v.as_real() >= 1e-30 && v.as_real() <= 1e30) out.push_back(v.as_real());
  }
  if (out.size() != count || list->size() != count)
    c.fail(format("{} is {}, not {} positive numbers", key, printable(list->dump()), count));
  return out;
}

GqaSettings read_attention(ConfigReader& c, FamilyModel& m) {
  GqaSettings gqa;
  read_heads(c, {.kv_heads = 8}, m, gqa);
  c.require_given({"rope_theta", "rope_parameters"});
  gqa.rope = read_rope(c, {.max_positions = 8192});
  const bool bias = c.boolean("attention_bias", false);
  gqa.bias = bias ? "qkvo" : "none";
  const double in = read_multiplier(c, "attention_in_multiplier");
  if (bias && in != 1) c.fail("attention_bias with an attention_in_multiplier is not known");
  const double scores = in * in * read_multiplier(c, "key_multiplier");
  if (scores != 1) gqa.scale = scores / std::sqrt(static_cast<double>(gqa.head_dim));
  gqa.out_scale = in * read_multiplier(c, "attention_out_multiplier");
  return gqa;
}

std::string in_scales(ConfigReader& c, bool bias) {
  const double in = read_multiplier(c, "ssm_in_multiplier");
  if (bias && in != 1) c.fail("mamba_proj_bias with an ssm_in_multiplier is not known");
  std::string text;
  bool plain = true;
  for (const double part : read_multipliers(c, "ssm_multipliers", 5)) {
    plain = plain && in * part == 1;
    if (!text.empty()) text += ':';
    text += shortest_text(in * part);
  }
  return plain ? "" : text;
}

Mamba2Settings read_mamba2(ConfigReader& c, int64_t width) {
  const int64_t expanded = c.integer("mamba_expand", 2, 1 << 10) * width;
  const int64_t inner = c.explicit_null("mamba_d_ssm") ? expanded : c.integer("mamba_d_ssm", 1024);
  Mamba2Settings m = read_bamba_mamba2(c, inner, "mamba_d_ssm");
  if (c.boolean("projectors_bias", false) != m.bias)
    c.fail("projectors_bias and mamba_proj_bias differ; out_proj and in_proj share one option");
  const bool before = c.boolean("mamba_norm_before_gate", true);
  m.norm = !c.boolean("mamba_rms_norm", false) ? "none" : before ? "before" : "gated";
  m.in_scales = in_scales(c, m.bias);
  m.out_scale = read_multiplier(c, "ssm_out_multiplier");
  c.ignore({"time_step_floor"});
  return m;
}

LayerSpec read_channel(ConfigReader& c) {
  const std::vector<double> scales = read_multipliers(c, "mlp_multipliers", 2);
  const int64_t ffn = c.integer("intermediate_size", 14336);
  if (ffn < 1) c.fail("intermediate_size is 0");
  LayerSpec channel = swiglu_layer(ffn, "silu", c.boolean("mlp_bias", false));
  if (scales[0] != 1) channel.options.set("gate_scale", shortest_text(scales[0]));
  if (scales[1] != 1) channel.options.set("out_scale", shortest_text(scales[1]));
  return channel;
}

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.vocab = 128000, .max_positions = 8192, .eps = 1e-5}, m);
  c.require_text("hidden_act", {"silu"});
  c.require_boolean("mamba_use_mlp", true);
  read_layer_types(c, m.layers, {"hybrid"});
  // The last is what older releases kept beside sizes.
  c.ignore({"num_logits_to_keep", "mlp_expansion_factor"});
  if (c.has("attn_layer_indices")) c.fail("attn_layer_indices is given; every layer attends");
  m.settings.embedding_scale = read_multiplier(c, "embedding_multiplier");
  m.settings.logit_scale = read_multiplier(c, "lm_head_multiplier");
  const GqaSettings gqa = read_attention(c, m);
  const Mamba2Settings mamba = read_mamba2(c, m.settings.width);
  StackItem heads, channel, layers;
  heads.layers = {gqa_layer(gqa, m.settings), mamba2_layer(mamba, m.settings.width)};
  heads.join = Join::kSum;
  channel.layers = {read_channel(c)};
  layers.count = m.layers;
  layers.items = {heads, channel};
  m.settings.stack = canonical({{layers}});
  m.table = {{"norm.weight", "{P}final_layernorm.weight", copied(), ""},
             {"channel.swiglu.*", "feed_forward.*", copied(), ""}};
  // A sum has no order: what braid trained may have the two the other way round.
  for (const char* branch : {"mixer.0.", "mixer.1."}) {
    m.table.push_back({format("{}gqa.*", branch), "self_attn.*", copied(), ""});
    append(m.table, mamba2_rows(mamba, "mamba.", format("{}mamba2.", branch)));
  }
  append(m.table, base_table("input_layernorm", "pre_ff_layernorm"));
  return m;
}

}  // namespace

Family family_falcon_h1() { return {"falcon_h1", {"falcon_h1"}, read}; }

}  // namespace braid
