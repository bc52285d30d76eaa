// The published family that a model braid trained belongs to: its config.json is written, read
// back, and must describe the very same model.

#include <algorithm>
#include <cmath>
#include <span>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/importers/architectures.h"
#include "braid/importers/hf_export.h"
#include "braid/importers/hf_rope.h"
#include "braid/importers/hf_shown.h"
#include "braid/importers/hf_writers.h"
#include "braid/layers/channels/default_ffn.h"

namespace braid {

void put_common(const ShownModel& m, const char* type, Json& c) {
  const ModelSettings& s = m.settings;
  c.set("architectures", Json::array({architecture_of(type)}));
  c.set("model_type", type);
  c.set("vocab_size", s.vocab);
  c.set("hidden_size", s.width);
  c.set("num_hidden_layers", m.blocks());
  c.set("hidden_act", "silu");
  c.set("rms_norm_eps", s.norm_eps);
  c.set("tie_word_embeddings", s.tie_embeddings);
  put_made_for(m, c);
}

void put_made_for(const ShownModel& m, Json& c) {
  const int64_t tokens = m.settings.max_position_embeddings;
  if (tokens > 0) c.set("max_position_embeddings", tokens);
}

void put_heads(const ShownModel& m, Json& c) {
  if (!m.has("gqa"))
    homeless(format("{} has gqa layers, this model none", c.at("model_type").as_string()));
  const ShownLayer& g = *m.first("gqa");
  const int64_t heads = g.integer("heads", m.settings.heads);
  c.set("num_attention_heads", heads);
  c.set("num_key_value_heads", g.integer("kv_heads", heads));
  c.set("head_dim", g.integer("head_dim", m.settings.head_dim));
  c.set("attention_bias", g.get("bias", "none") == "qkvo");
}

void put_gqa(const ShownModel& m, Json& c) {
  put_heads(m, c);
  const ShownLayer& g = *m.first("gqa");
  c.set("rope_theta", g.real("rope_theta", 10000));
  put_rope_scaling(m, g, c);
}

int64_t dense_layers_first(const ShownModel& m) {
  int64_t first = 0;
  while (first < m.blocks() && m.layers[static_cast<size_t>(2 * first + 1)].name == "swiglu")
    ++first;
  return first;
}

int64_t dense_width(const ShownModel& m) {
  const ShownLayer* l = m.first("swiglu");
  return l == nullptr ? default_ffn(m.settings.width) : l->integer("ffn", 0);
}

void put_mamba2(const ShownLayer& l, const Mamba2Keys& keys, Json& c) {
  c.set(keys.heads, l.integer("heads", 0));
  c.set(keys.head_dim, l.integer("head_dim", 64));
  c.set(keys.groups, l.integer("groups", 1));
  c.set(keys.state, l.integer("state", 128));
  c.set(keys.conv, l.integer("conv", 4));
  c.set(keys.conv_bias, l.truth("conv_bias", true));
  c.set(keys.bias, l.truth("bias", false));
}

int64_t mamba2_expand(const ShownModel& m) {
  const ShownLayer& l = *m.first("mamba2");
  return l.integer("heads", 0) * l.integer("head_dim", 64) / m.settings.width;
}

void put_step_limit(const ShownLayer& l, Json& c) {
  const double least = l.real("dt_min", 0), most = l.real("dt_max", 0);
  if (least == 0 && most == 0) return;
  c.set("time_step_limit", Json::array({least, most > 0 ? Json(most) : python_infinity()}));
}

namespace {

int64_t expert_width(const ShownModel& m, const ShownLayer& moe) {
  return moe.integer("ffn", default_expert_ffn(m.settings.width, 2));
}

Json llama_config(const ShownModel& m) {
  Json c = Json::object();
  put_common(m, "llama", c);
  put_gqa(m, c);
  c.set("intermediate_size", dense_width(m));
  c.set("mlp_bias", false);
  return c;
}

Json qwen3_config(const ShownModel& m) {
  Json c = Json::object();
  put_common(m, "qwen3", c);
  put_gqa(m, c);
  c.set("intermediate_size", dense_width(m));
  c.set("use_sliding_window", false);
  return c;
}

// mlp_only_layers: those without experts.
Json dense_layers(const ShownModel& m) {
  Json out = Json::array();
  for (int64_t i = 0; i < m.blocks(); ++i) {
    if (m.layers[static_cast<size_t>(2 * i + 1)].name == "swiglu") out.push(i);
  }
  return out;
}

void put_qwen_experts(const ShownModel& m, Json& c) {
  const ShownLayer none{"moe", {}, ""};
  const ShownLayer& e = m.has("moe") ? *m.first("moe") : none;
  c.set("intermediate_size", dense_width(m));
  c.set("num_experts", e.integer("experts", 8));
  c.set("num_experts_per_tok", e.integer("top_k", 2));
  c.set("moe_intermediate_size", expert_width(m, e));
  c.set("norm_topk_prob", e.truth("renormalise", true));
  c.set("decoder_sparse_step", 1);
  c.set("mlp_only_layers", dense_layers(m));
}

Json qwen3_moe_config(const ShownModel& m) {
  Json c = Json::object();
  put_common(m, "qwen3_moe", c);
  put_gqa(m, c);
  put_qwen_experts(m, c);
  return c;
}

Json layer_types(const ShownModel& m) {
  Json out = Json::array();
  for (int64_t i = 0; i < m.blocks(); ++i) {
    const bool full = m.layers[static_cast<size_t>(2 * i)].name == "gqa";
    out.push(full ? "full_attention" : "linear_attention");
  }
  return out;
}

Json qwen3_next_config(const ShownModel& m) {
  Json c = Json::object();
  put_common(m, "qwen3_next", c);
  if (!m.has("gdn")) homeless("qwen3_next has gdn layers, this model none");
  if (m.has("gqa")) {
    put_gqa(m, c);
    c.set("partial_rotary_factor", m.first("gqa")->real("rotary", 1));
  } else {
    c.set("num_attention_heads", m.settings.heads);
    c.set("num_key_value_heads", m.settings.heads);
    c.set("head_dim", m.settings.head_dim);
  }
  put_qwen_experts(m, c);
  const ShownLayer none{"moe", {}, ""};
  const ShownLayer& e = m.has("moe") ? *m.first("moe") : none;
  c.set("shared_expert_intermediate_size", e.integer("shared", 0));
  c.set("layer_types", layer_types(m));
  const ShownLayer& g = *m.first("gdn");
  const int64_t heads = g.integer("heads", m.settings.heads);
  const int64_t dim = g.integer("head_dim", m.settings.head_dim);
  c.set("linear_num_key_heads", heads);
  c.set("linear_num_value_heads", g.integer("v_heads", heads));
  c.set("linear_key_head_dim", dim);
  c.set("linear_value_head_dim", g.integer("value_dim", dim));
  c.set("linear_conv_kernel_dim", g.integer("conv", 4));
  return c;
}

void put_kimi_layers(const ShownModel& m, Json& c) {
  const ShownLayer& k = *m.first("kda");
  Json kda = Json::array(), full = Json::array();
  for (int64_t i = 0; i < m.blocks(); ++i)
    (m.layers[static_cast<size_t>(2 * i)].name == "kda" ? kda : full).push(i + 1);
  Json linear = Json::object({{"num_heads", k.integer("heads", m.settings.heads)},
                              {"head_dim", k.integer("head_dim", m.settings.head_dim)},
                              {"short_conv_kernel_size", k.integer("conv", 4)},
                              {"kda_layers", kda},
                              {"full_attn_layers", full}});
  if (k.real("gate_lower_bound", 0) != 0)
    linear.set("gate_lower_bound", k.real("gate_lower_bound", 0));
  if (k.truth("full_rank_gate", false)) linear.set("use_full_rank_gate", true);
  c.set("linear_attn_config", linear);
}

Json kimi_linear_config(const ShownModel& m) {
  Json c = Json::object();
  put_common(m, "kimi_linear", c);
  if (m.settings.max_position_embeddings > 0)
    c.set("model_max_length", m.settings.max_position_embeddings);
  if (!m.has("kda")) homeless("kimi_linear has kda layers, this model none");
  put_kimi_layers(m, c);
  const ShownLayer none{"", {}, ""};
  const ShownLayer& a = m.has("mla") ? *m.first("mla") : none;
  c.set("num_attention_heads", a.integer("heads", m.settings.heads));
  if (a.integer("q_lora_rank", 0) > 0) c.set("q_lora_rank", a.integer("q_lora_rank", 0));
  for (const auto& [key, fallback] : {std::pair<const char*, int64_t>{"kv_lora_rank", 512},
                                      {"qk_nope_head_dim", 128},
                                      {"qk_rope_head_dim", 64},
                                      {"v_head_dim", 128}})
    c.set(key, a.integer(key, fallback));
  c.set("mla_use_nope", true);
  const ShownLayer& e = m.has("moe") ? *m.first("moe") : none;
  const int64_t ffn = expert_width(m, e);
  c.set("intermediate_size", dense_width(m));
  c.set("num_experts", e.integer("experts", 8));
  c.set("num_experts_per_token", e.integer("top_k", 2));
  c.set("moe_intermediate_size", ffn);
  c.set("moe_renormalize", e.truth("renormalise", true));
  c.set("moe_router_activation_func", "sigmoid");
  c.set("routed_scaling_factor", e.real("scale", 1));
  c.set("num_expert_group", e.integer("groups", 1));
  c.set("topk_group", e.integer("topk_groups", 1));
  c.set("num_shared_experts", e.integer("shared", 0) / ffn);
  c.set("first_k_dense_replace", dense_layers_first(m));
  c.set("moe_layer_freq", 1);
  return c;
}

Json lfm2_config(const ShownModel& m) {
  if (!m.has("shortconv")) homeless("lfm2 has shortconv layers, this model none");
  const ModelSettings& s = m.settings;
  const ShownLayer &conv = *m.first("shortconv"), none{"gqa", {}, ""};
  const ShownLayer& g = m.has("gqa") ? *m.first("gqa") : none;
  const int64_t heads = g.integer("heads", s.heads);
  Json types = Json::array();
  for (int64_t i = 0; i < m.blocks(); ++i) {
    const bool full = m.layers[static_cast<size_t>(2 * i)].name == "gqa";
    types.push(full ? "full_attention" : "conv");
  }
  Json c = Json::object({{"architectures", Json::array({architecture_of("lfm2")})},
                         {"model_type", "lfm2"},
                         {"vocab_size", s.vocab},
                         {"hidden_size", s.width},
                         {"num_hidden_layers", m.blocks()},
                         {"norm_eps", s.norm_eps},
                         {"tie_word_embeddings", s.tie_embeddings},
                         {"num_attention_heads", heads},
                         {"num_key_value_heads", g.integer("kv_heads", heads)},
                         {"head_dim", g.integer("head_dim", s.head_dim)},
                         {"rope_theta", g.real("rope_theta", 10000)},
                         {"conv_L_cache", conv.integer("conv", 3)},
                         {"conv_bias", conv.truth("bias", false)},
                         {"intermediate_size", dense_width(m)},
                         {"block_auto_adjust_ff_dim", false},
                         {"layer_types", types}});
  put_made_for(m, c);
  return c;
}

Json granite_config(const ShownModel& m) {
  if (!m.has("mamba2")) homeless("granitemoehybrid has mamba2 layers, this model none");
  Json c = Json::object();
  put_common(m, "granitemoehybrid", c);
  put_mamba2(*m.first("mamba2"), kBambaKeys, c);
  c.set("mamba_expand", mamba2_expand(m));
  const ShownLayer none{"", {}, ""};
  const ShownLayer& g = m.has("gqa") ? *m.first("gqa") : none;
  const int64_t heads = g.integer("heads", m.settings.heads);
  const double dim = static_cast<double>(g.integer("head_dim", m.settings.head_dim));
  c.set("num_attention_heads", heads);
  c.set("num_key_value_heads", g.integer("kv_heads", heads));
  c.set("head_dim", static_cast<int64_t>(dim));
  c.set("attention_bias", g.get("bias", "none") == "qkvo");
  c.set("attention_multiplier", g.real("scale", 1 / std::sqrt(dim)));
  c.set("position_embedding_type", g.truth("rope", true) ? "rope" : "nope");
  c.set("rope_theta", g.real("rope_theta", 10000));
  c.set("embedding_multiplier", m.settings.embedding_scale);
  c.set("logits_scaling", 1 / m.settings.logit_scale);
  const Options& residual = m.settings.residual.options;
  c.set("residual_multiplier",
        parse_real(residual.items().empty() ? "1" : residual.items().front().value).value_or(1));
  const ShownLayer& e = m.has("moe") ? *m.first("moe") : none;
  c.set("num_local_experts", m.has("moe") ? e.integer("experts", 8) : 0);
  c.set("num_experts_per_tok", e.integer("top_k", 2));
  c.set("intermediate_size", expert_width(m, e));
  c.set("shared_intermediate_size", m.has("moe") ? e.integer("shared", 0) : dense_width(m));
  Json types = Json::array();
  for (int64_t i = 0; i < m.blocks(); ++i)
    types.push(m.layers[static_cast<size_t>(2 * i)].name == "gqa" ? "attention" : "mamba");
  c.set("layer_types", types);
  return c;
}

// Models of one mixer a layer have other words for the sizes of all.
Json backbone_config(const ShownModel& m, const char* type, const char* layer) {
  const ModelSettings& s = m.settings;
  if (!m.has(layer)) homeless(format("{} has {} layers, this model none", type, layer));
  return Json::object({{"architectures", Json::array({architecture_of(type)})},
                       {"model_type", type},
                       {"vocab_size", s.vocab},
                       {"hidden_size", s.width},
                       {"num_hidden_layers", m.blocks()},
                       {"layer_norm_epsilon", s.norm_eps},
                       {"tie_word_embeddings", s.tie_embeddings},
                       {"residual_in_fp32", true}});
}

Json mamba_config(const ShownModel& m) {
  Json c = backbone_config(m, "mamba", "mamba");
  c.set("hidden_act", "silu");
  const ShownLayer& l = *m.first("mamba");
  c.set("state_size", l.integer("state", 16));
  c.set("conv_kernel", l.integer("conv", 4));
  c.set("expand", l.integer("inner", 0) / m.settings.width);
  c.set("time_step_rank", l.integer("dt_rank", 0));
  c.set("use_conv_bias", l.truth("conv_bias", true));
  c.set("use_bias", l.truth("bias", false));
  return c;
}

Json mamba2_config(const ShownModel& m) {
  Json c = backbone_config(m, "mamba2", "mamba2");
  c.set("hidden_act", "silu");
  const ShownLayer& l = *m.first("mamba2");
  put_mamba2(l, kMamba2Keys, c);
  c.set("expand", mamba2_expand(m));
  put_step_limit(l, c);
  return c;
}

std::string nemotron_pattern(const ShownModel& m) {
  std::string out;
  for (const ShownLayer& l : m.layers) {
    out += l.name == "mamba2" ? 'M' : l.name == "gqa" ? '*' : l.name == "moe" ? 'E' : '-';
  }
  return out;
}

void put_nemotron_experts(const ShownModel& m, Json& c) {
  const ShownLayer& e = *m.first("moe");
  c.set("n_routed_experts", e.integer("experts", 8));
  c.set("num_experts_per_tok", e.integer("top_k", 2));
  c.set("moe_intermediate_size", expert_width(m, e));
  c.set("n_shared_experts", 1);
  c.set("moe_shared_expert_intermediate_size", e.integer("shared", 0));
  c.set("n_group", e.integer("groups", 1));
  c.set("topk_group", e.integer("topk_groups", 1));
  c.set("norm_topk_prob", e.truth("renormalise", true));
  c.set("routed_scaling_factor", e.real("scale", 1));
}

Json nemotron_h_config(const ShownModel& m) {
  Json c = backbone_config(m, "nemotron_h", "mamba2");
  c.set("hybrid_override_pattern", nemotron_pattern(m));
  put_made_for(m, c);
  const ShownLayer& l = *m.first("mamba2");
  put_mamba2(l, kNemotronKeys, c);
  c.set("mamba_hidden_act", "silu");
  put_step_limit(l, c);
  const ShownLayer none{"", {}, ""};
  const ShownLayer& g = m.has("gqa") ? *m.first("gqa") : none;
  const int64_t heads = g.integer("heads", m.settings.heads);
  c.set("num_attention_heads", heads);
  c.set("num_key_value_heads", g.integer("kv_heads", heads));
  c.set("head_dim", g.integer("head_dim", m.settings.head_dim));
  c.set("attention_bias", g.get("bias", "none") == "qkvo");
  const ShownLayer& f = m.has("mlp") ? *m.first("mlp") : none;
  c.set("intermediate_size", f.integer("ffn", 4 * m.settings.width));
  c.set("mlp_hidden_act", "relu2");
  c.set("mlp_bias", f.truth("bias", false));
  if (m.has("moe")) put_nemotron_experts(m, c);
  return c;
}

// Layers of one kind as "every period-th, from the offset on", as far as that says it.
void put_every(const ShownModel& m, const char* name, int64_t slot, const char* period_key,
               const char* offset_key, Json& c) {
  std::vector<int64_t> at;
  for (int64_t i = 0; i < m.blocks(); ++i) {
    if (m.layers[static_cast<size_t>(2 * i + slot)].name == name) at.push_back(i);
  }
  const int64_t offset = at.empty() ? m.blocks() : at[0];
  c.set(period_key, at.size() > 1 ? at[1] - at[0] : m.blocks() + 1);
  c.set(offset_key, offset);
}

Json jamba_config(const ShownModel& m) {
  if (!m.has("mamba")) homeless("jamba has mamba layers, this model none");
  Json c = Json::object();
  put_common(m, "jamba", c);
  const ShownLayer& l = *m.first("mamba");
  const ShownLayer none{"", {}, ""};
  const ShownLayer& g = m.has("gqa") ? *m.first("gqa") : none;
  const ShownLayer& e = m.has("moe") ? *m.first("moe") : none;
  const int64_t heads = g.integer("heads", m.settings.heads);
  c.set("num_attention_heads", heads);
  c.set("num_key_value_heads", g.integer("kv_heads", heads));
  put_every(m, "gqa", 0, "attn_layer_period", "attn_layer_offset", c);
  put_every(m, "moe", 1, "expert_layer_period", "expert_layer_offset", c);
  c.set("intermediate_size", m.has("swiglu") ? dense_width(m) : expert_width(m, e));
  c.set("num_experts", m.has("moe") ? e.integer("experts", 8) : 1);
  c.set("num_experts_per_tok", m.has("moe") ? e.integer("top_k", 2) : 1);
  c.set("mamba_d_state", l.integer("state", 16));
  c.set("mamba_d_conv", l.integer("conv", 4));
  c.set("mamba_expand", l.integer("inner", 0) / m.settings.width);
  c.set("mamba_dt_rank", l.integer("dt_rank", 0));
  c.set("mamba_conv_bias", l.truth("conv_bias", true));
  c.set("mamba_proj_bias", l.truth("bias", false));
  return c;
}

Json rwkv7_config(const ShownModel& m) {
  if (!m.has("rwkv7") || !m.has("cmix")) homeless("rwkv7 has rwkv7 and cmix layers");
  const ModelSettings& s = m.settings;
  const ShownLayer &l = *m.first("rwkv7"), &f = *m.first("cmix");
  const int64_t dim = l.integer("head_dim", 64);
  const ShownLayer& later = m.layers.size() > 2 ? m.layers[2] : l;  // the first has no v_rank
  Json c = Json::object({{"architectures", Json::array({architecture_of("rwkv7")})},
                         {"model_type", "rwkv7"},
                         {"vocab_size", s.vocab},
                         {"hidden_size", s.width},
                         {"num_hidden_layers", m.blocks()},
                         {"head_dim", dim},
                         {"num_heads", s.width / dim},
                         {"intermediate_size", f.integer("ffn", 0)},
                         {"decay_low_rank_dim", l.integer("decay_rank", 0)},
                         {"a_low_rank_dim", l.integer("a_rank", 0)},
                         {"v_low_rank_dim", later.integer("v_rank", 16)},
                         {"gate_low_rank_dim", l.integer("g_rank", 0)},
                         {"hidden_act", "sqrelu"},
                         {"norm_first", s.embedding_norm},
                         {"norm_bias", true},
                         {"norm_eps", s.norm_eps},
                         {"tie_word_embeddings", s.tie_embeddings}});
  put_made_for(m, c);
  return c;
}

struct Writer {
  const char* family;
  int64_t slots;  // sub-layers of a layer
  Json (*write)(const ShownModel&);
};
constexpr Writer kWriters[] = {{"llama", 2, llama_config},
                               {"qwen3", 2, qwen3_config},
                               {"qwen3_moe", 2, qwen3_moe_config},
                               {"qwen3_next", 2, qwen3_next_config},
                               {"kimi_linear", 2, kimi_linear_config},
                               {"gemma3", 2, gemma3_config},
                               {"gpt_oss", 2, gpt_oss_config},
                               {"deepseek_v3", 2, deepseek_v3_config},
                               {"lfm2", 2, lfm2_config},
                               {"granitemoehybrid", 2, granite_config},
                               {"mamba", 1, mamba_config},
                               {"mamba2", 1, mamba2_config},
                               {"nemotron_h", 1, nemotron_h_config},
                               {"jamba", 2, jamba_config},
                               {"falcon_h1", 2, falcon_h1_config},
                               {"hymba", 2, hymba_config},
                               {"rwkv7", 2, rwkv7_config}};

// All layers are of these kinds.
bool only(const ShownModel& m, std::initializer_list<std::string_view> names) {
  return std::all_of(m.layers.begin(), m.layers.end(), [&](const ShownLayer& l) {
    return std::find(names.begin(), names.end(), l.name) != names.end();
  });
}

std::string nearest(const ShownModel& m) {
  if (only(m, {"mamba"})) return "mamba";
  if (only(m, {"mamba2"})) return "mamba2";
  const bool ungated = !m.has("moe") || !m.first("moe")->truth("gated", true);
  if (m.has("mamba2") && ungated && only(m, {"mamba2", "gqa", "mlp", "moe"})) return "nemotron_h";
  if (m.has("gqa+mamba2")) return "falcon_h1";
  if (m.has("hymba")) return "hymba";
  if (m.has("rwkv7")) return "rwkv7";
  if (m.has("mla") && !m.has("kda")) return "deepseek_v3";
  if (m.has("kda")) return "kimi_linear";
  if (m.has("gdn")) return "qwen3_next";
  if (m.has("shortconv")) return "lfm2";
  if (m.has("mamba2")) return "granitemoehybrid";
  if (m.has("mamba")) return "jamba";
  if (m.has("moe") && m.first("moe")->get("act", "silu") == "clamped") return "gpt_oss";
  if (m.has("moe")) return "qwen3_moe";
  if (m.settings.norm_placement == NormPlacement::kSandwich) return "gemma3";
  return m.has("gqa") && m.first("gqa")->get("qk_norm", "none") == "head" ? "qwen3" : "llama";
}

// Layers of two sub-layers are a mixer and a channel each.
void check_order(const ShownModel& m) {
  constexpr std::string_view kMixers[] = {"gqa",    "gdn",   "kda",   "mla",   "shortconv",
                                          "mamba2", "mamba", "rwkv7", "hymba", "gqa+mamba2"};
  constexpr std::string_view kChannels[] = {"swiglu", "moe", "cmix"};
  if (m.layers.size() % 2 != 0)
    homeless(format("{} sub-layers are no whole number of mixer and channel", m.layers.size()));
  for (size_t i = 0; i < m.layers.size(); ++i) {
    const std::span<const std::string_view> wanted =
        i % 2 == 1 ? std::span<const std::string_view>(kChannels) : kMixers;
    if (std::find(wanted.begin(), wanted.end(), m.layers[i].name) != wanted.end()) continue;
    std::string list;
    for (const std::string_view w : wanted) list += (list.empty() ? "" : ", ") + std::string(w);
    homeless(format("layer {} is {}; one of {} is wanted there", i, m.layers[i].text, list));
  }
}

// What the family would make of its config against what the model is.
void check_same(const ShownModel& want, const ShownModel& got, const char* family) {
  for (size_t i = 0; i < want.layers.size(); ++i) {
    const std::string has = i < got.layers.size() ? got.layers[i].text : "nothing";
    if (has != want.layers[i].text)
      homeless(format("layer {} is {}; {} has {} there", i, want.layers[i].text, family, has));
  }
  const auto same = [&](const char* what, const std::string& a, const std::string& b) {
    if (a != b) homeless(format("{} is {}; {} has {}", what, a, family, b));
  };
  const ModelSettings &w = want.settings, &g = got.settings;
  same("norm", norm_name(w.norm), norm_name(g.norm));
  same("norm_placement", placement_name(w.norm_placement), placement_name(g.norm_placement));
  same("residual", print_named(w.residual), print_named(g.residual));
  same("embedding_scale", shortest_text(w.embedding_scale), shortest_text(g.embedding_scale));
  same("embedding_norm", w.embedding_norm ? "true" : "false", g.embedding_norm ? "true" : "false");
  same("logit_scale", shortest_text(w.logit_scale), shortest_text(g.logit_scale));
  same("logit_softcap", shortest_text(w.logit_softcap), shortest_text(g.logit_softcap));
  same("positions", format("{}", w.positions), format("{}", g.positions));
  same("meta_tokens", format("{}", w.meta_tokens), format("{}", g.meta_tokens));
  same("tie_embeddings", w.tie_embeddings ? "true" : "false", g.tie_embeddings ? "true" : "false");
  same("norm_eps", shortest_text(w.norm_eps), shortest_text(g.norm_eps));
  // Where nobody knows for how many tokens the model was made, config.json does not say it either;
  // some families have no word for it.
  if (w.max_position_embeddings > 0 && g.max_position_embeddings > 0)
    same("max_position_embeddings", format("{}", w.max_position_embeddings),
         format("{}", g.max_position_embeddings));
}

}  // namespace

HfHome find_home(const ModelSettings& settings, const std::string& name) {
  ShownModel m = show_model(settings);
  const std::string family = name.empty() ? nearest(m) : name;
  const auto writer = std::find_if(std::begin(kWriters), std::end(kWriters),
                                   [&](const Writer& w) { return family == w.family; });
  if (writer == std::end(kWriters)) {
    std::string known;
    for (const Writer& w : kWriters) known += (known.empty() ? "" : ", ") + std::string(w.family);
    throw Error(ErrorKind::kUsage, format("--family is \"{}\"; {} can be written", family, known));
  }
  m.slots = writer->slots;
  if (m.slots == 2) check_order(m);
  if (family == "qwen3_next") m = show_model(with_one_plus(settings));
  HfHome home{writer->write(m), find_family(family)};
  ModelSettings read;
  try {
    read = read_config(home.config, "config.json").model.settings;
  } catch (const Error& e) {
    homeless(format("{} cannot say it ({})", family, e.what()));
  }
  check_same(m, show_model(read), writer->family);
  return home;
}

}  // namespace braid
