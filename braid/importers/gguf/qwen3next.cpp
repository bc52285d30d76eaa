// Qwen3-Next: in_proj_qkvz holds a group of q, k, v and z rows for every key head.

#include <algorithm>

#include "braid/base/format.h"
#include "braid/importers/gguf/qwen_linear.h"

namespace braid {
namespace {

void read_layers(const GgufKeys& k, GgufModel& m) {
  const GgufValue* recurrent = k.find("attention.recurrent_layers");
  if (recurrent == nullptr || recurrent->kind() != GgufKind::kArray) {
    m.full = every_nth_full(m.layers, k.integer("full_attention_interval", 4));
    return;
  }
  for (const int64_t r : k.per_layer("attention.recurrent_layers", m.layers))
    m.full.push_back(r == 0);
}

void write_layers(GgufExchange& x, const GgufModel& m) {
  const auto first = std::find(m.full.begin(), m.full.end(), true);
  const int64_t every = first - m.full.begin() + 1;
  if (first != m.full.end() && m.full == every_nth_full(m.layers, every)) {
    x.set("full_attention_interval", gguf_integer(every));
    return;
  }
  std::vector<int32_t> recurrent;
  for (int64_t i = 0; i < m.layers; ++i) recurrent.push_back(m.attends(i) ? 0 : 1);
  x.set("attention.recurrent_layers", GgufValue::i32s(recurrent));
}

}  // namespace

void qwen_linear_settings(GgufExchange& x, GgufModel& m) {
  x.layer_types(m, "linear_attention", "full_attention_interval", 4);
  x.integer(m.key_heads, "linear_num_key_heads", "ssm.group_count");
  x.integer(m.value_heads, "linear_num_value_heads", "ssm.time_step_rank");
  x.integer(m.key_dim, "linear_key_head_dim", "ssm.state_size");
  x.integer(m.taps, "linear_conv_kernel_dim", "ssm.conv_kernel", 4);
  if (m.key_heads < 1 || m.value_heads < 1 || m.value_heads % m.key_heads != 0)
    x.fail(format("{} value heads of linear layers on {} key heads", m.value_heads, m.key_heads));
  int64_t inner = m.value_heads * m.value_dim;
  x.integer(inner, "", "ssm.inner_size");
  if (x.from_file() != nullptr) m.value_dim = inner / m.value_heads;
  x.integer(m.value_dim, "linear_value_head_dim", "");
  if (m.key_dim != m.value_dim || (x.from_file() != nullptr && inner % m.value_heads != 0))
    x.fail(format("key heads of {} and {} value heads in {} channels have no form", m.key_dim,
                  m.value_heads, inner));
  if (x.from_file() != nullptr) read_layers(*x.from_file(), m);
  if (x.to_file() != nullptr) write_layers(x, m);
}

namespace {

void settings(GgufExchange& x, GgufModel& m) {
  x.sizes(m);
  x.heads(m);
  x.says("hidden_act", "silu");
  x.says("attention_dropout", 0.0);
  x.attention_bias(m);
  x.never("use_sliding_window");
  x.never("mlp_bias");
  x.positions(m, {.partial = 0.25, .says_partial = true});
  x.experts(m);
  x.always("decoder_sparse_step", 1);
  x.always("mlp_only_layers", Json::array());
  x.always("norm_topk_prob", true, false);
  qwen_linear_settings(x, m);
  x.integer(m.shared_ffn, "shared_expert_intermediate_size", "expert_shared_feed_forward_length",
            x.from_file() != nullptr ? std::optional(m.ffn) : std::nullopt);
}

void gated_delta(GgufLinkList& l) {
  const GgufModel& m = l.model();
  const int64_t r = m.value_heads / m.key_heads;
  const int64_t dk = m.key_dim, dv = m.value_dim, vg = r * dv, group = 2 * dk + 2 * vg;
  const int64_t keys = m.key_heads * dk, values = m.value_heads * dv;
  const std::string hf = l.h("linear_attn.in_proj_qkvz.weight");
  const GgufLinkList::Shape hf_shape = {2 * keys + 2 * values, m.width};
  GgufLink qkv, z;
  qkv.gguf = l.g("attn_qkv.weight");
  qkv.shape = {2 * keys + values, m.width};
  z.gguf = l.g("attn_gate.weight");
  z.shape = {values, m.width};
  for (int64_t k = 0; k < m.key_heads; ++k) {
    const int64_t at = k * group;
    qkv.pieces.push_back({hf, hf_shape, k * dk, at, dk, 1});
    qkv.pieces.push_back({hf, hf_shape, keys + k * dk, at + dk, dk, 1});
    qkv.pieces.push_back({hf, hf_shape, 2 * keys + k * vg, at + 2 * dk, vg, 1});
    z.pieces.push_back({hf, hf_shape, k * vg, at + 2 * dk + vg, vg, 1});
  }
  l.add(std::move(qkv));
  l.add(std::move(z));
  l.matrix("ssm_ba", "linear_attn.in_proj_ba", 2 * m.value_heads, m.width).keep_f32 = true;
  l.add(l.g("ssm_conv1d.weight"), l.h("linear_attn.conv1d.weight"), {2 * keys + values, m.taps},
        {2 * keys + values, 1, m.taps})
      .keep_f32 = true;
  l.add(l.g("ssm_dt.bias"), l.h("linear_attn.dt_bias"), {m.value_heads});
  l.add(l.g("ssm_a"), l.h("linear_attn.A_log"), {m.value_heads}).value = GgufLink::Value::kNegExp;
  l.add(l.g("ssm_norm.weight"), l.h("linear_attn.norm.weight"), {dv});
  l.matrix("ssm_out", "linear_attn.out_proj", m.width, values);
}

void tensors(GgufLinkList& l) {
  const GgufModel& m = l.model();
  l.centred_norms = true;
  l.all([&](int64_t i) {
    l.norm("attn_norm", "input_layernorm", m.width);
    if (m.attends(i))
      l.attention({.gate = true,
                   .bias = m.attention_bias,
                   .out_bias = m.attention_bias,
                   .head_norms = true});
    else
      gated_delta(l);
    l.norm("post_attention_norm", "post_attention_layernorm", m.width);
    l.experts({.shared = "shared_expert", .shared_gate = "shared_expert_gate"});
  });
}

}  // namespace

GgufArchitecture gguf_qwen3next() { return {"qwen3next", {"qwen3_next"}, settings, tensors}; }

}  // namespace braid
