// The published family that a model braid trained belongs to: its config.json is written, read
// back, and must describe the very same model.

#include <algorithm>
#include <cmath>
#include <map>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/importers/hf_export.h"

namespace braid {
namespace {

struct Layer {
  std::string name;
  std::map<std::string, std::string> options;
  std::string text;  // as the expression says it

  std::string get(const char* key, const std::string& fallback) const {
    const auto found = options.find(key);
    return found == options.end() ? fallback : found->second;
  }
  int64_t integer(const char* key, int64_t fallback) const {
    return parse_int(get(key, "")).value_or(fallback);
  }
  double real(const char* key, double fallback) const {
    return parse_real(get(key, "")).value_or(fallback);
  }
  bool truth(const char* key, bool fallback) const {
    return parse_bool(get(key, "")).value_or(fallback);
  }
};

struct Shown {
  ModelSettings settings;  // resolved
  std::vector<Layer> layers;
  int64_t blocks() const { return std::ssize(layers) / 2; }
  const Layer* first(std::string_view name) const {
    for (const Layer& l : layers) {
      if (l.name == name) return &l;
    }
    return nullptr;
  }
  bool has(std::string_view name) const { return first(name) != nullptr; }
};

[[noreturn]] void homeless(const std::string& what) {
  throw Error(ErrorKind::kUsage, "no Hugging Face family holds this model: " + what);
}

// Widths of the dense layers and of the experts where the layer leaves them to itself.
int64_t default_ffn(int64_t width) { return ((8 * width + 2) / 3 + 63) / 64 * 64; }
int64_t default_expert_ffn(int64_t width, int64_t top_k) {
  return std::max<int64_t>(1, ((8 * width + 2) / 3 / top_k + 31) / 32) * 32;
}

// Sizes that a layer leaves to the model are said, and what only training reads is left out, so
// that two layers are the same when their texts are.
void spell_out(const ModelSettings& s, Layer& l) {
  const auto put = [&](const char* key, int64_t value) { l.options[key] = format("{}", value); };
  if (l.name == "swiglu" && l.integer("ffn", 0) == 0) put("ffn", default_ffn(s.width));
  if (l.name == "moe") {
    if (l.integer("ffn", 0) == 0) put("ffn", default_expert_ffn(s.width, l.integer("top_k", 2)));
    for (const char* key : {"aux_coef", "bias_rate"}) l.options.erase(key);
    if (l.get("balance", "bias") == "aux") l.options["balance"] = "none";
  }
  if (l.name == "gqa" || l.name == "gdn" || l.name == "kda") {
    const int64_t heads = l.integer("heads", 0), dim = l.integer("head_dim", 0);
    put("heads", heads > 0 ? heads : dim > 0 ? s.width / dim : s.heads);
    put("head_dim", dim > 0 ? dim : heads > 0 ? s.width / heads : s.head_dim);
    if (l.name == "gqa") {
      put("kv_heads", l.integer("kv_heads", l.integer("heads", 0)));
    } else {
      put("v_heads", l.integer("v_heads", l.integer("heads", 0)));
      put("value_dim", l.integer("value_dim", l.integer("head_dim", 0)));
    }
    if (l.name == "kda") put("gate_rank", l.integer("gate_rank", l.integer("value_dim", 0)));
  }
  if (l.name == "mla") {
    const int64_t heads = l.integer("heads", 0), dim = l.integer("qk_nope_head_dim", 0);
    const int64_t own = dim > 0 ? dim : heads > 0 ? s.width / heads : s.head_dim;
    put("heads", heads > 0 ? heads : dim > 0 ? s.width / dim : s.heads);
    put("qk_nope_head_dim", own);
    put("qk_rope_head_dim", l.integer("qk_rope_head_dim", own / 2));
    put("v_head_dim", l.integer("v_head_dim", own));
    put("kv_lora_rank", l.integer("kv_lora_rank", 4 * own));
  }
  l.text = l.name;
  const char* sign = "{";
  for (const auto& [key, value] : l.options) {
    l.text += format("{}{}={}", sign, key, value);
    sign = ",";
  }
  if (!l.options.empty()) l.text += "}";
}

// The layers of a model in canonical options.
Shown shown(const ModelSettings& settings) {
  Context dry;
  dry.arena = Arena::create(Arena::Mode::kDry);
  const Model model(dry, settings, Model::Fill::kDeferred);
  Shown out{model.settings(), {}};
  const std::vector<Model::SubLayer> all = model.sublayers();
  if (std::ssize(all) != model.executed())
    homeless("layers run more than once (loop), and no family shares weights");
  for (const Model::SubLayer& s : all) {
    Layer l;
    l.name = s.name;
    const Options options = s.layer->options();
    for (const Options::Item& o : options.items()) l.options[o.key] = o.value;
    spell_out(out.settings, l);
    out.layers.push_back(std::move(l));
  }
  if (out.layers.size() % 2 != 0)
    homeless(format("{} sub-layers are no whole number of mixer and channel", out.layers.size()));
  for (size_t i = 0; i < out.layers.size(); ++i) {
    const std::string& name = out.layers[i].name;
    const bool channel = name == "swiglu" || name == "moe";
    const bool known = channel || name == "gqa" || name == "gdn" || name == "kda" ||
                       name == "mla" || name == "shortconv" || name == "mamba2";
    if (!known || channel != (i % 2 == 1))
      homeless(format("layer {} is {}; a {} is wanted there", i, out.layers[i].text,
                      i % 2 == 1 ? "swiglu or moe" : "gqa, gdn, kda, mla, mamba2 or shortconv"));
  }
  return out;
}

void put_common(const Shown& m, const char* type, const char* architecture, Json& c) {
  const ModelSettings& s = m.settings;
  c.set("architectures", Json::array({architecture}));
  c.set("model_type", type);
  c.set("vocab_size", s.vocab);
  c.set("hidden_size", s.width);
  c.set("num_hidden_layers", m.blocks());
  c.set("hidden_act", "silu");
  c.set("rms_norm_eps", s.norm_eps);
  c.set("tie_word_embeddings", s.tie_embeddings);
  c.set("max_position_embeddings",
        s.max_position_embeddings > 0 ? s.max_position_embeddings : int64_t{32768});
}

void put_gqa(const Shown& m, Json& c) {
  const Layer& g = *m.first("gqa");
  const int64_t heads = g.integer("heads", m.settings.heads);
  c.set("num_attention_heads", heads);
  c.set("num_key_value_heads", g.integer("kv_heads", heads));
  c.set("head_dim", g.integer("head_dim", m.settings.head_dim));
  c.set("rope_theta", g.real("rope_theta", 10000));
  c.set("attention_bias", g.get("bias", "none") == "qkvo");
}

int64_t dense_width(const Shown& m) {
  const Layer* l = m.first("swiglu");
  return l == nullptr ? default_ffn(m.settings.width) : l->integer("ffn", 0);
}
int64_t expert_width(const Shown& m, const Layer& moe) {
  return moe.integer("ffn", default_expert_ffn(m.settings.width, 2));
}

Json llama_config(const Shown& m) {
  Json c = Json::object();
  put_common(m, "llama", "LlamaForCausalLM", c);
  put_gqa(m, c);
  c.set("intermediate_size", dense_width(m));
  c.set("mlp_bias", false);
  return c;
}

Json qwen3_config(const Shown& m) {
  Json c = Json::object();
  put_common(m, "qwen3", "Qwen3ForCausalLM", c);
  put_gqa(m, c);
  c.set("intermediate_size", dense_width(m));
  c.set("use_sliding_window", false);
  return c;
}

// mlp_only_layers: those without experts.
Json dense_layers(const Shown& m) {
  Json out = Json::array();
  for (int64_t i = 0; i < m.blocks(); ++i) {
    if (m.layers[static_cast<size_t>(2 * i + 1)].name == "swiglu") out.push(i);
  }
  return out;
}

void put_qwen_experts(const Shown& m, Json& c) {
  const Layer none{"moe", {}, ""};
  const Layer& e = m.has("moe") ? *m.first("moe") : none;
  c.set("intermediate_size", dense_width(m));
  c.set("num_experts", e.integer("experts", 8));
  c.set("num_experts_per_tok", e.integer("top_k", 2));
  c.set("moe_intermediate_size", expert_width(m, e));
  c.set("norm_topk_prob", e.truth("renormalise", true));
  c.set("decoder_sparse_step", 1);
  c.set("mlp_only_layers", dense_layers(m));
}

Json qwen3_moe_config(const Shown& m) {
  Json c = Json::object();
  put_common(m, "qwen3_moe", "Qwen3MoeForCausalLM", c);
  put_gqa(m, c);
  put_qwen_experts(m, c);
  return c;
}

Json layer_types(const Shown& m) {
  Json out = Json::array();
  for (int64_t i = 0; i < m.blocks(); ++i) {
    const bool full = m.layers[static_cast<size_t>(2 * i)].name == "gqa";
    out.push(full ? "full_attention" : "linear_attention");
  }
  return out;
}

Json qwen3_next_config(const Shown& m) {
  Json c = Json::object();
  put_common(m, "qwen3_next", "Qwen3NextForCausalLM", c);
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
  const Layer none{"moe", {}, ""};
  const Layer& e = m.has("moe") ? *m.first("moe") : none;
  c.set("shared_expert_intermediate_size", e.integer("shared", 0));
  c.set("layer_types", layer_types(m));
  const Layer& g = *m.first("gdn");
  const int64_t heads = g.integer("heads", m.settings.heads);
  const int64_t dim = g.integer("head_dim", m.settings.head_dim);
  c.set("linear_num_key_heads", heads);
  c.set("linear_num_value_heads", g.integer("v_heads", heads));
  c.set("linear_key_head_dim", dim);
  c.set("linear_value_head_dim", g.integer("value_dim", dim));
  c.set("linear_conv_kernel_dim", g.integer("conv", 4));
  return c;
}

void put_kimi_layers(const Shown& m, Json& c) {
  const Layer& k = *m.first("kda");
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

Json kimi_linear_config(const Shown& m) {
  Json c = Json::object();
  put_common(m, "kimi_linear", "KimiLinearForCausalLM", c);
  if (!m.has("kda")) homeless("kimi_linear has kda layers, this model none");
  put_kimi_layers(m, c);
  const Layer none{"", {}, ""};
  const Layer& a = m.has("mla") ? *m.first("mla") : none;
  c.set("num_attention_heads", a.integer("heads", m.settings.heads));
  if (a.integer("q_lora_rank", 0) > 0) c.set("q_lora_rank", a.integer("q_lora_rank", 0));
  for (const auto& [key, fallback] : {std::pair<const char*, int64_t>{"kv_lora_rank", 512},
                                      {"qk_nope_head_dim", 128},
                                      {"qk_rope_head_dim", 64},
                                      {"v_head_dim", 128}})
    c.set(key, a.integer(key, fallback));
  c.set("mla_use_nope", true);
  const Layer& e = m.has("moe") ? *m.first("moe") : none;
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
  int64_t first = 0;
  while (first < m.blocks() && m.layers[static_cast<size_t>(2 * first + 1)].name == "swiglu")
    ++first;
  c.set("first_k_dense_replace", first);
  c.set("moe_layer_freq", 1);
  return c;
}

Json lfm2_config(const Shown& m) {
  if (!m.has("shortconv")) homeless("lfm2 has shortconv layers, this model none");
  const ModelSettings& s = m.settings;
  const Layer &conv = *m.first("shortconv"), none{"gqa", {}, ""};
  const Layer& g = m.has("gqa") ? *m.first("gqa") : none;
  const int64_t heads = g.integer("heads", s.heads);
  Json types = Json::array();
  for (int64_t i = 0; i < m.blocks(); ++i) {
    const bool full = m.layers[static_cast<size_t>(2 * i)].name == "gqa";
    types.push(full ? "full_attention" : "conv");
  }
  return Json::object(
      {{"architectures", Json::array({"Lfm2ForCausalLM"})},
       {"model_type", "lfm2"},
       {"vocab_size", s.vocab},
       {"hidden_size", s.width},
       {"num_hidden_layers", m.blocks()},
       {"norm_eps", s.norm_eps},
       {"tie_word_embeddings", s.tie_embeddings},
       {"max_position_embeddings",
        s.max_position_embeddings > 0 ? s.max_position_embeddings : int64_t{128000}},
       {"num_attention_heads", heads},
       {"num_key_value_heads", g.integer("kv_heads", heads)},
       {"head_dim", g.integer("head_dim", s.head_dim)},
       {"rope_theta", g.real("rope_theta", 10000)},
       {"conv_L_cache", conv.integer("conv", 3)},
       {"conv_bias", conv.truth("bias", false)},
       {"intermediate_size", dense_width(m)},
       {"block_auto_adjust_ff_dim", false},
       {"layer_types", types}});
}

void put_mamba2(const Shown& m, Json& c) {
  const Layer& l = *m.first("mamba2");
  const int64_t width = m.settings.width, dim = l.integer("head_dim", 64),
                expand = l.integer("expand", 2);
  c.set("mamba_d_head", dim);
  c.set("mamba_n_heads", l.integer("heads", expand * width / dim));
  c.set("mamba_expand", l.integer("heads", 0) > 0 ? l.integer("heads", 0) * dim / width : expand);
  c.set("mamba_n_groups", l.integer("groups", 1));
  c.set("mamba_d_state", l.integer("state", 128));
  c.set("mamba_d_conv", l.integer("conv", 4));
  c.set("mamba_conv_bias", l.truth("conv_bias", true));
  c.set("mamba_proj_bias", l.truth("bias", false));
}

Json granite_config(const Shown& m) {
  if (!m.has("mamba2")) homeless("granitemoehybrid has mamba2 layers, this model none");
  Json c = Json::object();
  put_common(m, "granitemoehybrid", "GraniteMoeHybridForCausalLM", c);
  put_mamba2(m, c);
  const Layer none{"", {}, ""};
  const Layer& g = m.has("gqa") ? *m.first("gqa") : none;
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
  const Layer& e = m.has("moe") ? *m.first("moe") : none;
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

struct Writer {
  const char* family;
  Json (*write)(const Shown&);
};
constexpr Writer kWriters[] = {{"llama", llama_config},
                               {"qwen3", qwen3_config},
                               {"qwen3_moe", qwen3_moe_config},
                               {"qwen3_next", qwen3_next_config},
                               {"kimi_linear", kimi_linear_config},
                               {"lfm2", lfm2_config},
                               {"granitemoehybrid", granite_config}};

std::string nearest(const Shown& m) {
  if (m.has("kda") || m.has("mla")) return "kimi_linear";
  if (m.has("gdn")) return "qwen3_next";
  if (m.has("shortconv")) return "lfm2";
  if (m.has("mamba2")) return "granitemoehybrid";
  if (m.has("moe")) return "qwen3_moe";
  return m.has("gqa") && m.first("gqa")->get("qk_norm", "none") == "head" ? "qwen3" : "llama";
}

// What the family would make of its config against what the model is.
void check_same(const Shown& want, const Shown& got, const char* family) {
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
  same("tie_embeddings", w.tie_embeddings ? "true" : "false", g.tie_embeddings ? "true" : "false");
  same("norm_eps", shortest_text(w.norm_eps), shortest_text(g.norm_eps));
}

}  // namespace

HfHome find_home(const ModelSettings& settings, const std::string& name) {
  Shown m = shown(settings);
  const std::string family = name.empty() ? nearest(m) : name;
  const auto writer = std::find_if(std::begin(kWriters), std::end(kWriters),
                                   [&](const Writer& w) { return family == w.family; });
  if (writer == std::end(kWriters)) {
    std::string known;
    for (const Writer& w : kWriters) known += (known.empty() ? "" : ", ") + std::string(w.family);
    throw Error(ErrorKind::kUsage, format("--family is \"{}\"; {} can be written", family, known));
  }
  if (family == "qwen3_next") m = shown(with_one_plus(settings));
  HfHome home{writer->write(m), find_family(family)};
  ModelSettings read;
  try {
    read = read_config(home.config, "config.json").model.settings;
  } catch (const Error& e) {
    homeless(format("{} cannot say it ({})", family, e.what()));
  }
  check_same(m, shown(read), writer->family);
  return home;
}

}  // namespace braid
