// GLM-4.5 and 4.6.

#include "braid/importers/gguf_architecture.h"

namespace braid {
namespace {

void settings(GgufExchange& x, GgufModel& m) {
  x.sizes(m, {.eps = 1e-5});
  x.heads(m);
  x.says("hidden_act", "silu");
  x.says("attention_dropout", 0.0);
  x.attention_bias(m);
  x.truth(m.head_norms, "use_qk_norm", "", false);
  if (x.from_file() != nullptr)
    m.head_norms = x.from_file()->has_tensor("blk.0.attn_q_norm.weight");
  x.positions(m, {.partial = 0.5, .says_partial = true});
  x.sigmoid_experts(m, {});
}

void tensors(GgufLinkList& l) {
  const GgufModel& m = l.model();
  l.all([&](int64_t i) {
    l.norm("attn_norm", "input_layernorm", m.width);
    l.attention({.bias = m.attention_bias, .head_norms = m.head_norms});
    l.norm("post_attention_norm", "post_attention_layernorm", m.width);
    if (i < m.dense_lead)
      l.dense("mlp.", m.ffn);
    else
      l.experts({.correction = "gate.e_score_correction_bias", .shared = "shared_experts"});
  });
}

}  // namespace

GgufArchitecture gguf_glm4moe() { return {"glm4moe", {"glm4_moe"}, settings, tensors}; }

}  // namespace braid
