// DeepSeek V3, V3.1 and R1, Kimi K2: latent attention, a sigmoid router with groups. DeepSeek V2
// has another router and is none of braid's families.

#include "braid/importers/gguf_architecture.h"

namespace braid {
namespace {

void settings(GgufExchange& x, GgufModel& m) {
  x.sizes(m);
  m.kv_heads = m.heads;
  x.says("num_key_value_heads", m.heads);
  if (x.to_file() != nullptr) x.set("attention.head_count_kv", gguf_integer(1));
  x.integer(m.vocab, "", "vocab_size", 0);
  x.says("hidden_act", "silu");
  x.says("attention_dropout", 0.0);
  x.always("attention_bias", false);
  x.always("rope_interleave", true);
  x.latent(m);
  m.head_dim = m.rope_dim;  // of a head what positions turn
  x.positions(m, {.mscale = true});
  x.sigmoid_experts(m, {.scale = 2.5, .groups = 8, .groups_used = 4, .dense_lead = 3});
  x.says("topk_method", "noaux_tc");
  x.says("scoring_func", "sigmoid");
  x.always("moe_layer_freq", 1);
}

void tensors(GgufLinkList& l) {
  const GgufModel& m = l.model();
  l.all([&](int64_t i) {
    l.norm("attn_norm", "input_layernorm", m.width);
    l.latent_attention();
    l.norm("ffn_norm", "post_attention_layernorm", m.width);
    if (i < m.dense_lead)
      l.dense("mlp.", m.ffn);
    else
      l.experts({.correction = "gate.e_score_correction_bias", .shared = "shared_experts"});
  });
}

}  // namespace

GgufArchitecture gguf_deepseek2() {
  return {"deepseek2", {"deepseek_v3", "kimi_k2"}, settings, tensors};
}

}  // namespace braid
