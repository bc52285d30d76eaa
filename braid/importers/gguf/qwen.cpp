// Qwen 2 and 3, dense and with experts.

#include "braid/importers/gguf_architecture.h"

namespace braid {
namespace {

void common(GgufExchange& x, GgufModel& m) {
  x.sizes(m);
  x.heads(m);
  x.says("hidden_act", "silu");
  x.says("attention_dropout", 0.0);
  x.always("use_sliding_window", false);
  x.never("mlp_bias");
  x.positions(m, {});
}

void qwen3_settings(GgufExchange& x, GgufModel& m) {
  common(x, m);
  x.attention_bias(m);
}

void qwen3moe_settings(GgufExchange& x, GgufModel& m) {
  qwen3_settings(x, m);
  x.experts(m);
  x.always("decoder_sparse_step", 1);
  x.always("mlp_only_layers", Json::array());
  x.always("norm_topk_prob", true, false);
}

void layers(GgufLinkList& l, bool qkv_bias, bool out_bias, bool head_norms) {
  const GgufModel& m = l.model();
  l.all([&](int64_t) {
    l.norm("attn_norm", "input_layernorm", m.width);
    l.attention({.bias = qkv_bias, .out_bias = out_bias, .head_norms = head_norms});
    l.norm("ffn_norm", "post_attention_layernorm", m.width);
    if (m.experts > 0)
      l.experts({});
    else
      l.dense("mlp.", m.ffn);
  });
}

void qwen2_tensors(GgufLinkList& l) { layers(l, true, false, false); }
void qwen3_tensors(GgufLinkList& l) {
  layers(l, l.model().attention_bias, l.model().attention_bias, true);
}

}  // namespace

GgufArchitecture gguf_qwen2() { return {"qwen2", {"qwen2"}, common, qwen2_tensors}; }
GgufArchitecture gguf_qwen3() { return {"qwen3", {"qwen3"}, qwen3_settings, qwen3_tensors}; }
GgufArchitecture gguf_qwen3moe() {
  return {"qwen3moe", {"qwen3_moe"}, qwen3moe_settings, qwen3_tensors};
}

}  // namespace braid
