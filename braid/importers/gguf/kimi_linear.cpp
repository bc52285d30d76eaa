// Kimi Linear: Kimi Delta Attention, every so often latent attention without positions.

#include "braid/base/format.h"
#include "braid/importers/gguf_architecture.h"

namespace braid {
namespace {

void read_linear(const GgufConfig& c, GgufModel& m) {
  const Json* linear = c.find("linear_attn_config");
  if (linear == nullptr) c.fail("there is no linear_attn_config");
  m.key_dim = linear->at("head_dim").as_int();
  m.key_heads = linear->at("num_heads").as_int();
  m.taps = linear->at("short_conv_kernel_size").as_int();
  if (m.key_heads != m.heads)
    c.fail(format("{} KDA heads but {} attention heads have no GGUF form", m.key_heads, m.heads));
  m.full.assign(static_cast<size_t>(m.layers), false);
  for (const Json& one_based : linear->at("full_attn_layers").elements()) {
    const int64_t i = one_based.as_int() - 1;
    if (i < 0 || i >= m.layers) c.fail(format("full_attn_layers holds {}", i + 1));
    m.full[static_cast<size_t>(i)] = true;
  }
}

Json linear_json(const GgufModel& m) {
  Json kda = Json::array(), full = Json::array();
  for (int64_t i = 0; i < m.layers; ++i) (m.attends(i) ? full : kda).push(i + 1);
  Json linear = Json::object();
  linear.set("head_dim", m.key_dim);
  linear.set("num_heads", m.key_heads);
  linear.set("short_conv_kernel_size", m.taps);
  linear.set("kda_layers", kda);
  linear.set("full_attn_layers", full);
  return linear;
}

// A layer attends where it has key heads.
void linear_settings(GgufExchange& x, GgufModel& m) {
  if (x.from_config() != nullptr) read_linear(*x.from_config(), m);
  x.says("linear_attn_config", linear_json(m));
  if (const GgufKeys* k = x.from_file()) {
    for (const int64_t n : k->per_layer("attention.head_count_kv", m.layers))
      m.full.push_back(n > 0);
    m.key_heads = m.heads;
  }
  if (x.to_file() != nullptr) {
    std::vector<int32_t> kv;
    for (int64_t i = 0; i < m.layers; ++i) kv.push_back(m.attends(i) ? 1 : 0);
    x.set("attention.head_count_kv", GgufValue::i32s(kv));
  }
  x.integer(m.taps, "", "ssm.conv_kernel");
  x.integer(m.key_dim, "", "kda.head_dim");
}

void router_settings(GgufExchange& x, GgufModel& m) {
  x.integer(m.shared_count, "num_shared_experts", "expert_shared_count",
            x.from_file() != nullptr ? 1 : 0);
  m.shared_ffn = m.shared_count * m.expert_ffn;
  x.integer(m.dense_lead, "first_k_dense_replace", "leading_dense_block_count", 0);
  x.scale_of_experts(m);
  x.truth(m.norm_topk, "moe_renormalize", "expert_weights_norm", true);
  x.says("moe_router_activation_func", m.sigmoid_router ? "sigmoid" : "softmax");
  if (const GgufConfig* c = x.from_config())
    m.sigmoid_router = c->text("moe_router_activation_func", "sigmoid") == "sigmoid";
  x.gating(m);
  x.always("num_expert_group", 1);
  x.says("topk_group", 1);
  x.says("moe_layer_freq", 1);
}

void settings(GgufExchange& x, GgufModel& m) {
  x.sizes(m, {.context = "model_max_length", .eps = 1e-5});
  m.kv_heads = m.heads;
  if (x.from_config() != nullptr && m.tied) x.fail("a tied head has no GGUF form for kimi-linear");
  x.says("hidden_act", "silu");
  x.experts(m, "num_experts", "num_experts_per_token");
  x.integer(m.vocab, "", "vocab_size", 0);
  linear_settings(x, m);
  x.latent(m);
  x.always("mla_use_nope", true, false);
  router_settings(x, m);
}

void kda(GgufLinkList& l) {
  const GgufModel& m = l.model();
  const int64_t d = m.key_dim, p = m.key_heads * d;
  for (const char* x : {"q", "k", "v"}) {
    l.matrix(format("attn_{}", x), format("self_attn.{}_proj", x), p, m.width);
    l.add(l.g(format("ssm_conv1d_{}.weight", x)), l.h(format("self_attn.{}_conv1d.weight", x)),
          {1, p, 1, m.taps}, {p, 1, m.taps})
        .keep_f32 = true;
  }
  l.matrix("ssm_f_a", "self_attn.f_a_proj", d, m.width);
  l.matrix("ssm_f_b", "self_attn.f_b_proj", p, d);
  l.matrix("ssm_beta", "self_attn.b_proj", m.key_heads, m.width).keep_f32 = true;
  GgufLink& a =
      l.add(l.g("ssm_a"), l.h("self_attn.A_log"), {1, 1, m.key_heads, 1}, {1, 1, m.key_heads, 1});
  a.value = GgufLink::Value::kNegExp;
  a.keep_f32 = true;
  l.add(l.g("ssm_dt.bias"), l.h("self_attn.dt_bias"), {p});
  l.matrix("ssm_g_a", "self_attn.g_a_proj", d, m.width);
  l.matrix("ssm_g_b", "self_attn.g_b_proj", p, d);
  l.add(l.g("ssm_norm.weight"), l.h("self_attn.o_norm.weight"), {d});
  l.matrix("attn_output", "self_attn.o_proj", m.width, p);
}

void tensors(GgufLinkList& l) {
  const GgufModel& m = l.model();
  l.all([&](int64_t i) {
    l.norm("attn_norm", "input_layernorm", m.width);
    if (m.attends(i))
      l.latent_attention();
    else
      kda(l);
    l.norm("ffn_norm", "post_attention_layernorm", m.width);
    if (i < m.dense_lead)
      l.dense("mlp.", m.ffn);
    else
      l.experts({.at = "block_sparse_moe.",
                 .gate = "w1",
                 .up = "w3",
                 .down = "w2",
                 .correction = "gate.e_score_correction_bias",
                 .shared = "shared_experts"});
  });
}

}  // namespace

GgufArchitecture gguf_kimi_linear() { return {"kimi-linear", {"kimi_linear"}, settings, tensors}; }

}  // namespace braid
