// Qwen3.5, text part: Qwen3-Next's layers with plain projections. Files have value heads in turn
// over the key heads, the checkpoint has those of a key head side by side.

#include "braid/importers/gguf/qwen_linear.h"

namespace braid {
namespace {

// Pairs of channels that belong to time, height and width of an image; text has the same position
// in all three, and every pair must belong to one.
void sections(GgufExchange& x, GgufModel& m) {
  const int64_t pairs = m.rotary / 2;
  m.sections.clear();
  for (const int64_t more : {2, 1, 0})
    m.sections.push_back(static_cast<int32_t>((pairs + more) / 3));
  m.sections.push_back(0);
  if (x.to_file() != nullptr) x.set("rope.dimension_sections", GgufValue::i32s(m.sections));
}

void common(GgufExchange& x, GgufModel& m, const GgufExchange::Sizes& sizes) {
  x.sizes(m, sizes);
  x.heads(m);
  x.says("hidden_act", "silu");
  x.says("attention_dropout", 0.0);
  x.always("attention_bias", false);
  x.always("attn_output_gate", true);
  x.positions(m, {.partial = 0.25, .says_partial = true});
  sections(x, m);
  qwen_linear_settings(x, m);
}

void dense_settings(GgufExchange& x, GgufModel& m) { common(x, m, {}); }

void moe_settings(GgufExchange& x, GgufModel& m) {
  common(x, m, {.ffn = ""});
  x.experts(m);
  x.always("norm_topk_prob", true);
  x.integer(m.shared_ffn, "shared_expert_intermediate_size", "expert_shared_feed_forward_length",
            x.from_file() != nullptr ? std::optional(m.ffn) : std::nullopt);
}

// Rows of value heads of `size` rows each, behind `before` rows that stay.
void turn_values(const GgufModel& m, int64_t before, int64_t size, GgufLink& link) {
  const GgufLink::Piece whole = link.pieces[0];
  link.pieces.clear();
  if (before > 0) link.pieces.push_back({whole.hf, whole.hf_shape, 0, 0, before});
  const int64_t r = m.value_heads / m.key_heads;
  for (int64_t k = 0; k < m.key_heads; ++k) {
    for (int64_t j = 0; j < r; ++j)
      link.pieces.push_back({whole.hf, whole.hf_shape, before + (j * m.key_heads + k) * size,
                             before + (k * r + j) * size, size});
  }
}

// A number for every value head.
GgufLink& per_head(GgufLinkList& l, const char* gguf, const char* hf) {
  const GgufModel& m = l.model();
  GgufLink& link = l.add(l.g(gguf), l.h(hf), {m.value_heads, 1}, {m.value_heads});
  link.by_element = link.keep_f32 = true;
  turn_values(m, 0, 1, link);
  return link;
}

void gated_delta(GgufLinkList& l) {
  const GgufModel& m = l.model();
  const int64_t dv = m.value_dim, keys = 2 * m.key_heads * m.key_dim, values = m.value_heads * dv;
  turn_values(m, keys, dv, l.matrix("attn_qkv", "linear_attn.in_proj_qkv", keys + values, m.width));
  turn_values(m, 0, dv, l.matrix("attn_gate", "linear_attn.in_proj_z", values, m.width));
  turn_values(m, 0, 1, l.matrix("ssm_beta", "linear_attn.in_proj_b", m.value_heads, m.width));
  turn_values(m, 0, 1, l.matrix("ssm_alpha", "linear_attn.in_proj_a", m.value_heads, m.width));
  GgufLink& conv = l.add(l.g("ssm_conv1d.weight"), l.h("linear_attn.conv1d.weight"),
                         {keys + values, m.taps}, {keys + values, 1, m.taps});
  conv.keep_f32 = true;
  turn_values(m, keys, dv, conv);
  per_head(l, "ssm_dt.bias", "linear_attn.dt_bias");
  per_head(l, "ssm_a", "linear_attn.A_log").value = GgufLink::Value::kNegExp;
  l.add(l.g("ssm_norm.weight"), l.h("linear_attn.norm.weight"), {dv});
  GgufLink& out = l.matrix("ssm_out", "linear_attn.out_proj", m.width, values);
  const int64_t r = m.value_heads / m.key_heads;
  for (int64_t j = 0; r > 1 && j < r; ++j) {
    for (int64_t k = 0; k < m.key_heads; ++k) out.columns_from.push_back(k * r + j);
  }
}

// The checkpoint's gate_up_proj has the gate rows of an expert, then its up rows.
void half(GgufLinkList& l, const char* gguf, int64_t which) {
  const GgufModel& m = l.model();
  const int64_t f = m.expert_ffn;
  GgufLink link;
  link.gguf = l.g(gguf) + ".weight";
  link.shape = {m.experts, f, m.width};
  for (int64_t e = 0; e < m.experts; ++e)
    link.pieces.push_back({l.h("mlp.experts.gate_up_proj"),
                           {m.experts, 2 * f, m.width},
                           e * f,
                           (2 * e + which) * f,
                           f});
  l.add(std::move(link));
}

void experts(GgufLinkList& l) {
  const GgufModel& m = l.model();
  l.matrix("ffn_gate_inp", "mlp.gate", m.experts, m.width).keep_f32 = true;
  half(l, "ffn_gate_exps", 0);
  half(l, "ffn_up_exps", 1);
  l.add(l.g("ffn_down_exps.weight"), l.h("mlp.experts.down_proj"),
        {m.experts, m.width, m.expert_ffn});
  l.add(l.g("ffn_gate_inp_shexp.weight"), l.h("mlp.shared_expert_gate.weight"), {m.width},
        {1, m.width});
  l.dense("mlp.shared_expert.", m.shared_ffn, "_shexp");
}

void tensors(GgufLinkList& l) {
  const GgufModel& m = l.model();
  l.centred_norms = true;
  l.all([&](int64_t i) {
    l.norm("attn_norm", "input_layernorm", m.width);
    if (m.attends(i))
      l.attention({.gate = true, .head_norms = true});
    else
      gated_delta(l);
    l.norm("post_attention_norm", "post_attention_layernorm", m.width);
    if (m.experts > 0)
      experts(l);
    else
      l.dense("mlp.", m.ffn);
  });
}

}  // namespace

GgufArchitecture gguf_qwen35() {
  return {"qwen35", {"qwen3_5_text", "qwen3_5"}, dense_settings, tensors};
}
GgufArchitecture gguf_qwen35moe() {
  return {"qwen35moe", {"qwen3_5_moe_text", "qwen3_5_moe"}, moe_settings, tensors};
}

}  // namespace braid
