// MiniMax-M2: one norm over all of q and of k, a sigmoid router, experts in every layer.

#include "braid/importers/gguf_architecture.h"

namespace braid {
namespace {

void settings(GgufExchange& x, GgufModel& m) {
  x.sizes(m);
  x.heads(m);
  x.says("hidden_act", "silu");
  x.says("attention_dropout", 0.0);
  x.positions(m, {.theta = 5e6});
  x.integer(m.rotary, "rotary_dim", "", m.head_dim);
  if (x.to_file() != nullptr) x.set("rope.dimension_count", gguf_integer(m.rotary));
  x.always("use_qk_norm", true);
  x.always("qk_norm_type", "per_layer");
  x.always("use_routing_bias", true);
  x.says("scoring_func", "sigmoid");
  x.integer(m.experts, "num_local_experts", "expert_count");
  x.integer(m.used, "num_experts_per_tok", "expert_used_count");
  x.integer(m.expert_ffn, "", "expert_feed_forward_length");
  if (x.from_config() != nullptr) m.expert_ffn = m.ffn;
  m.sigmoid_router = true;
  x.gating(m);
  if (!m.sigmoid_router) x.fail("a router with softmax has no form here");
}

void tensors(GgufLinkList& l) {
  const GgufModel& m = l.model();
  l.all([&](int64_t) {
    l.norm("attn_norm", "input_layernorm", m.width);
    l.attention({.whole_norms = true});
    l.norm("ffn_norm", "post_attention_layernorm", m.width);
    l.experts({.at = "block_sparse_moe.",
               .gate = "w1",
               .up = "w3",
               .down = "w2",
               .correction = "e_score_correction_bias"});
  });
}

}  // namespace

GgufArchitecture gguf_minimax_m2() { return {"minimax-m2", {"minimax_m2"}, settings, tensors}; }

}  // namespace braid
