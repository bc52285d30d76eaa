// Writers of families that braid reads from others, and whose models come back from a braid folder:
// gemma3 and gpt_oss, whose layers have windows in turns, and deepseek_v3.

#include <cmath>

#include "braid/base/format.h"
#include "braid/importers/hf_rope.h"
#include "braid/importers/hf_writers.h"

namespace braid {
namespace {

Json window_types(const ShownModel& m) {
  Json out = Json::array();
  for (int64_t i = 0; i < m.blocks(); ++i) {
    const bool slides = m.layers[static_cast<size_t>(2 * i)].integer("window", 0) > 0;
    out.push(slides ? "sliding_attention" : "full_attention");
  }
  return out;
}

// The first layer with a window, or the first without; null where there is none.
const ShownLayer* first_gqa(const ShownModel& m, bool slides) {
  for (const ShownLayer& l : m.layers) {
    if (l.name == "gqa" && (l.integer("window", 0) > 0) == slides) return &l;
  }
  return nullptr;
}

void put_windows(const ShownModel& m, Json& c) {
  c.set("layer_types", window_types(m));
  if (const ShownLayer* sliding = first_gqa(m, true))
    c.set("sliding_window", sliding->integer("window", 0));
}

// query_pre_attn_scalar: scores are divided by its root.
Json score_scalar(const ShownLayer& g) {
  const double scale = g.real("scale", 0);
  if (scale == 0) return g.integer("head_dim", 0);
  const double scalar = 1 / (scale * scale), whole = std::round(scalar);
  return 1 / std::sqrt(whole) == scale ? Json(static_cast<int64_t>(whole)) : Json(scalar);
}

Json cap_or_null(double cap) { return cap > 0 ? Json(cap) : Json(); }

}  // namespace

Json gemma3_config(const ShownModel& m) {
  Json c = Json::object();
  put_common(m, "gemma3_text", c);
  put_heads(m, c);
  const ShownLayer& g = *m.first("gqa");
  c.set("hidden_activation", "gelu_pytorch_tanh");
  c.set("intermediate_size", dense_width(m));
  c.set("query_pre_attn_scalar", score_scalar(g));
  c.set("attn_logit_softcapping", cap_or_null(g.real("softcap", 0)));
  c.set("final_logit_softcapping", cap_or_null(m.settings.logit_softcap));
  put_windows(m, c);
  if (const ShownLayer* full = first_gqa(m, false)) {
    c.set("rope_theta", full->real("rope_theta", 10000));
    put_rope_scaling(m, *full, c);
  }
  if (const ShownLayer* sliding = first_gqa(m, true))
    c.set("rope_local_base_freq", sliding->real("rope_theta", 10000));
  return c;
}

Json gpt_oss_config(const ShownModel& m) {
  Json c = Json::object();
  put_common(m, "gpt_oss", c);
  if (!m.has("gqa") || !m.has("moe")) homeless("gpt_oss has gqa and moe layers");
  put_heads(m, c);
  const ShownLayer &g = *m.first("gqa"), &e = *m.first("moe");
  c.set("rope_theta", g.real("rope_theta", 10000));
  put_rope_scaling(m, g, c);
  // Without a word the class stretches positions.
  if (c.find("rope_scaling") == nullptr)
    c.set("rope_scaling", Json::object({{"rope_type", "default"}}));
  put_windows(m, c);
  c.set("intermediate_size", e.integer("ffn", 0));
  c.set("num_local_experts", e.integer("experts", 8));
  c.set("num_experts_per_tok", e.integer("top_k", 2));
  c.set("swiglu_limit", e.real("limit", 7));
  if (e.real("alpha", 1.702) != 1.702)
    homeless(format("gpt_oss has no word for the alpha={} of its experts", e.real("alpha", 0)));
  return c;
}

Json deepseek_v3_config(const ShownModel& m) {
  Json c = Json::object();
  put_common(m, "deepseek_v3", c);
  if (!m.has("mla") || !m.has("moe")) homeless("deepseek_v3 has mla and moe layers");
  const ShownLayer &a = *m.first("mla"), &e = *m.first("moe");
  const int64_t heads = a.integer("heads", 0), rank = a.integer("q_lora_rank", 0);
  c.set("num_attention_heads", heads);
  c.set("num_key_value_heads", heads);
  c.set("q_lora_rank", rank > 0 ? Json(rank) : Json());
  for (const char* key : {"kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"})
    c.set(key, a.integer(key, 0));
  c.set("attention_bias", a.truth("bias", false));
  c.set("rope_theta", a.real("rope_theta", 10000));
  c.set("rope_interleave", a.truth("interleaved", true));
  put_rope_scaling(m, a, c);
  const int64_t ffn = e.integer("ffn", 0);
  c.set("intermediate_size", dense_width(m));
  c.set("moe_intermediate_size", ffn);
  c.set("n_routed_experts", e.integer("experts", 8));
  c.set("n_shared_experts", e.integer("shared", 0) / ffn);
  c.set("num_experts_per_tok", e.integer("top_k", 2));
  c.set("n_group", e.integer("groups", 1));
  c.set("topk_group", e.integer("topk_groups", 1));
  c.set("norm_topk_prob", e.truth("renormalise", true));
  c.set("routed_scaling_factor", e.real("scale", 1));
  c.set("scoring_func", "sigmoid");
  c.set("topk_method", "noaux_tc");
  c.set("first_k_dense_replace", dense_layers_first(m));
  c.set("moe_layer_freq", 1);
  c.set("num_nextn_predict_layers", 0);
  return c;
}

}  // namespace braid
