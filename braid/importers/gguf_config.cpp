#include <algorithm>
#include <cmath>
#include <limits>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/importers/architectures.h"
#include "braid/importers/gguf_model.h"

namespace braid {
namespace {

struct TypeOfArch {
  const char* arch;
  const char* model_type;
};
// The first of an architecture is what is made from a GGUF file.
constexpr TypeOfArch kTypes[] = {
    {"llama", "llama"},   {"llama", "mistral"},        {"qwen2", "qwen2"},
    {"qwen3", "qwen3"},   {"qwen3moe", "qwen3_moe"},   {"gemma3", "gemma3_text"},
    {"gemma3", "gemma3"}, {"qwen3next", "qwen3_next"}, {"kimi-linear", "kimi_linear"}};

Json texts(const std::vector<bool>& full, const char* other) {
  Json out = Json::array();
  for (const bool f : full) out.push(f ? "full_attention" : other);
  return out;
}

Json scaling_json(const GgufModel& m) {
  Json s = Json::object();
  s.set("rope_type", m.scaling);
  if (m.scaling == "longrope") {
    Json list = Json::array();
    for (const double d : m.divisors) list.push(d);
    s.set("short_factor", list);
    s.set("long_factor", list);
    s.set("original_max_position_embeddings", m.original_context);
    s.set("attention_factor", m.attention_factor);
    return s;
  }
  s.set("factor", m.factor);
  if (m.scaling == "linear") return s;
  s.set("original_max_position_embeddings", m.original_context);
  if (m.scaling == "llama3") {
    s.set("low_freq_factor", m.low);
    s.set("high_freq_factor", m.high);
  } else if (m.attention_factor > 0) {
    s.set("attention_factor", m.attention_factor);
  }
  return s;
}

void set_qwen3next(const GgufModel& m, Json& c) {
  c.set("layer_types", texts(m.full, "linear_attention"));
  c.set("linear_num_key_heads", m.key_heads);
  c.set("linear_num_value_heads", m.value_heads);
  c.set("linear_key_head_dim", m.key_dim);
  c.set("linear_value_head_dim", m.value_dim);
  c.set("linear_conv_kernel_dim", m.taps);
  c.set("shared_expert_intermediate_size", m.shared_ffn);
  c.set("partial_rotary_factor",
        static_cast<double>(m.rotary) / static_cast<double>(std::max<int64_t>(1, m.head_dim)));
}

void set_kimi(const GgufModel& m, Json& c) {
  Json kda = Json::array(), full = Json::array();
  for (int64_t i = 0; i < m.layers; ++i) (m.attends(i) ? full : kda).push(i + 1);
  Json linear = Json::object();
  linear.set("head_dim", m.key_dim);
  linear.set("num_heads", m.key_heads);
  linear.set("short_conv_kernel_size", m.taps);
  linear.set("kda_layers", kda);
  linear.set("full_attn_layers", full);
  c.set("linear_attn_config", linear);
  c.set("q_lora_rank", m.q_lora > 0 ? Json(m.q_lora) : Json());
  c.set("kv_lora_rank", m.kv_lora);
  c.set("qk_nope_head_dim", m.nope_dim);
  c.set("qk_rope_head_dim", m.rope_dim);
  c.set("v_head_dim", m.v_dim);
  c.set("mla_use_nope", true);
  c.set("first_k_dense_replace", m.dense_lead);
  c.set("moe_layer_freq", 1);
  c.set("num_shared_experts", m.shared_count);
  c.set("moe_renormalize", m.norm_topk);
  c.set("moe_router_activation_func", m.sigmoid_router ? "sigmoid" : "softmax");
  c.set("routed_scaling_factor", m.routed_scale);
  c.set("num_expert_group", 1);
  c.set("topk_group", 1);
}

}  // namespace

Json hf_config_of(const GgufModel& m) {
  const TypeOfArch* type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                        [&](const TypeOfArch& t) { return m.arch == t.arch; });
  BRAID_CHECK(type != std::end(kTypes));
  Json c = Json::object();
  c.set("architectures", Json::array({architecture_of(type->model_type)}));
  c.set("model_type", type->model_type);
  c.set("vocab_size", m.vocab);
  c.set("hidden_size", m.width);
  c.set("num_hidden_layers", m.layers);
  c.set("num_attention_heads", m.heads);
  c.set("intermediate_size", m.ffn);
  c.set("rms_norm_eps", m.eps);
  c.set("tie_word_embeddings", m.tied);
  c.set("use_cache", true);
  if (m.context > 0) {
    c.set(m.arch == "kimi-linear" ? "model_max_length" : "max_position_embeddings", m.context);
  }
  c.set(m.arch == "gemma3" ? "hidden_activation" : "hidden_act",
        m.arch == "gemma3" ? "gelu_pytorch_tanh" : "silu");
  if (m.experts > 0) {
    const bool kimi = m.arch == "kimi-linear";
    c.set("num_experts", m.experts);
    c.set(kimi ? "num_experts_per_token" : "num_experts_per_tok", m.used);
    c.set("moe_intermediate_size", m.expert_ffn);
    if (!kimi) {
      c.set("norm_topk_prob", m.norm_topk);
      c.set("decoder_sparse_step", 1);
      c.set("mlp_only_layers", Json::array());
    }
  }
  if (m.arch == "kimi-linear") {
    set_kimi(m, c);
    return c;
  }
  c.set("num_key_value_heads", m.kv_heads);
  c.set("head_dim", m.head_dim);
  c.set("rope_theta", m.theta);
  if (m.arch != "qwen2") c.set("attention_bias", m.attention_bias);
  if (m.arch == "llama") c.set("mlp_bias", false);
  if (m.arch == "qwen2" || m.arch == "qwen3") c.set("use_sliding_window", false);
  c.set("attention_dropout", 0.0);
  if (!m.scaling.empty()) c.set("rope_scaling", scaling_json(m));
  if (m.arch == "qwen3next") set_qwen3next(m, c);
  if (m.arch != "gemma3") return c;
  c.set("sliding_window", m.window > 0 ? Json(m.window) : Json());
  c.set("layer_types", texts(m.full, "sliding_attention"));
  c.set("rope_local_base_freq", m.local_theta);
  c.set("query_pre_attn_scalar", m.query_scalar);
  if (m.softcap > 0) c.set("final_logit_softcapping", m.softcap);
  return c;
}

namespace {

// A config.json of either spelling, asked for single values.
class Config {
 public:
  Config(const Json& root, const std::string& source) : source_(source) {
    const Json* text = root.is_object() ? root.find("text_config") : nullptr;
    config_ = text != nullptr && text->is_object() ? text : &root;
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorKind::kBadInput, format("{}: {}", source_, what));
  }
  const Json* find(const char* key) const {
    const Json* v = config_->find(key);
    return v == nullptr || v->is_null() ? nullptr : v;
  }
  int64_t integer(const char* key, std::optional<int64_t> fallback = std::nullopt) const {
    const Json* v = find(key);
    if (v == nullptr && !fallback) fail(format("there is no {}", key));
    const int64_t n = v == nullptr ? *fallback : v->as_int();
    if (n < 0 || n > std::numeric_limits<int32_t>::max()) fail(format("{} is {}", key, n));
    return n;
  }
  double real(const char* key, double fallback) const {
    const Json* v = find(key);
    return v == nullptr ? fallback : v->as_real();
  }
  bool boolean(const char* key, bool fallback) const {
    const Json* v = find(key);
    return v == nullptr ? fallback : v->as_bool();
  }
  std::string text(const char* key, const std::string& fallback) const {
    const Json* v = find(key);
    return v == nullptr ? fallback : v->as_string();
  }
  std::vector<std::string> texts(const char* key) const {
    std::vector<std::string> out;
    if (const Json* v = find(key)) {
      for (const Json& t : v->elements()) out.push_back(t.as_string());
    }
    return out;
  }

 private:
  const Json* config_;
  std::string source_;
};

double real_of(const Json& object, const char* key, double fallback) {
  const Json* v = object.find(key);
  return v == nullptr || v->is_null() ? fallback : v->as_real();
}

// A length that config.json may write as 8192.0; GGUF holds it as a whole number of 32 bits.
int64_t length_of(const Config& c, const Json& object, const char* key, int64_t fallback) {
  const double v = real_of(object, key, static_cast<double>(fallback));
  if (!(v >= 0 && v <= std::numeric_limits<int32_t>::max()) || v != std::floor(v))
    c.fail(format("{} is {}, which has no GGUF form", key, v));
  return static_cast<int64_t>(v);
}

// rope_scaling or rope_parameters, which may stand once for each layer type.
void read_positions(const Config& c, GgufModel& m) {
  const Json* p = c.find("rope_parameters");
  const Json* local = p != nullptr ? p->find("sliding_attention") : nullptr;
  if (local != nullptr && local->is_object())
    m.local_theta = real_of(*local, "rope_theta", m.local_theta);
  if (p != nullptr && p->find("full_attention") != nullptr) p = p->find("full_attention");
  if (p != nullptr && p->is_object()) m.theta = real_of(*p, "rope_theta", 10000);
  m.theta = c.real("rope_theta", m.theta);
  double partial = c.real("partial_rotary_factor", m.arch == "qwen3next" ? 0.25 : 1);
  if (p != nullptr && p->is_object()) partial = real_of(*p, "partial_rotary_factor", partial);
  if (!(partial > 0 && partial <= 1))
    c.fail(format("partial_rotary_factor is {}, not in (0, 1]", partial));
  m.rotary = static_cast<int64_t>(std::llround(static_cast<double>(m.head_dim) * partial));
  if (const Json* s = c.find("rope_scaling")) p = s;
  if (p == nullptr || !p->is_object()) return;
  const Json* type = p->find("rope_type");
  if (type == nullptr) type = p->find("type");
  const std::string name = type == nullptr ? "default" : type->as_string();
  if (name == "default") return;
  if (name != "linear" && name != "yarn" && name != "llama3" && name != "longrope")
    c.fail(format("rope type \"{}\" has no GGUF form here", name));
  if (m.arch != "llama" && (name == "llama3" || name == "longrope"))
    c.fail(format("rope type \"{}\" has no GGUF form for {}", name, m.arch));
  m.scaling = name;
  m.factor = real_of(*p, "factor", 1);
  m.original_context = length_of(c, *p, "original_max_position_embeddings", m.context);
  m.attention_factor = real_of(*p, "attention_factor", 0);
  if (name == "yarn") {
    for (const char* key : {"mscale", "mscale_all_dim", "beta_fast", "beta_slow", "truncate"}) {
      const Json* v = p->find(key);
      const bool usual = v == nullptr || v->is_null() ||
                         (std::string_view(key) == "beta_fast" && v->as_real() == 32) ||
                         (std::string_view(key) == "beta_slow" && v->as_real() == 1);
      if (!usual) c.fail(format("yarn with {} {} has no GGUF form here", key, v->dump()));
    }
  }
  m.low = real_of(*p, "low_freq_factor", 1);
  m.high = real_of(*p, "high_freq_factor", 4);
  if (name != "longrope") return;
  const Json &longs = p->at("long_factor"), &shorts = p->at("short_factor");
  if (!(longs == shorts) || m.attention_factor != 1)
    c.fail("longrope with two lists of factors has no GGUF form here");
  for (const Json& d : longs.elements()) m.divisors.push_back(d.as_real());
  if (m.divisors.size() != static_cast<size_t>(m.head_dim / 2))
    c.fail(format("{} rope factors for heads of {}", m.divisors.size(), m.head_dim));
}

void read_experts(const Config& c, GgufModel& m) {
  const bool kimi = m.arch == "kimi-linear";
  m.experts = c.integer("num_experts");
  m.used = c.integer(kimi ? "num_experts_per_token" : "num_experts_per_tok");
  m.expert_ffn = c.integer("moe_intermediate_size");
  if (c.integer("decoder_sparse_step", 1) != 1 || !c.texts("mlp_only_layers").empty())
    c.fail("layers without experts have no GGUF form here");
  m.norm_topk = c.boolean(kimi ? "moe_renormalize" : "norm_topk_prob", kimi);
  if (!kimi && !m.norm_topk) c.fail("norm_topk_prob false has no GGUF form here");
}

void read_kimi(const Config& c, GgufModel& m) {
  const Json* linear = c.find("linear_attn_config");
  if (linear == nullptr) c.fail("there is no linear_attn_config");
  m.key_dim = m.value_dim = linear->at("head_dim").as_int();
  m.key_heads = m.value_heads = linear->at("num_heads").as_int();
  m.taps = linear->at("short_conv_kernel_size").as_int();
  if (m.key_heads != m.heads)
    c.fail(format("{} KDA heads but {} attention heads have no GGUF form", m.key_heads, m.heads));
  m.full.assign(static_cast<size_t>(m.layers), false);
  for (const Json& one_based : linear->at("full_attn_layers").elements()) {
    const int64_t i = one_based.as_int() - 1;
    if (i < 0 || i >= m.layers) c.fail(format("full_attn_layers holds {}", i + 1));
    m.full[static_cast<size_t>(i)] = true;
  }
  m.q_lora = c.integer("q_lora_rank", 0);
  m.kv_lora = c.integer("kv_lora_rank");
  m.nope_dim = c.integer("qk_nope_head_dim");
  m.rope_dim = c.integer("qk_rope_head_dim");
  m.v_dim = c.integer("v_head_dim");
  m.dense_lead = c.integer("first_k_dense_replace", 0);
  m.shared_count = c.integer("num_shared_experts", 0);
  m.shared_ffn = m.shared_count * m.expert_ffn;
  m.sigmoid_router = c.text("moe_router_activation_func", "sigmoid") == "sigmoid";
  m.routed_scale = c.real("routed_scaling_factor", 1);
  if (c.integer("num_expert_group", 1) != 1) c.fail("groups of experts have no GGUF form here");
}

void read_full_layers(const Config& c, GgufModel& m) {
  const std::vector<std::string> types = c.texts("layer_types");
  if (types.empty()) {
    const bool gemma = m.arch == "gemma3";
    const int64_t every =
        gemma ? c.integer("sliding_window_pattern", 6) : c.integer("full_attention_interval", 4);
    for (int64_t i = 0; i < m.layers; ++i)
      m.full.push_back((i + 1) % std::max<int64_t>(1, every) == 0);
    return;
  }
  if (types.size() != static_cast<size_t>(m.layers))
    c.fail(format("{} layer_types for {} layers", types.size(), m.layers));
  for (const std::string& t : types) m.full.push_back(t == "full_attention");
}

void read_gemma(const Config& c, GgufModel& m) {
  read_full_layers(c, m);
  m.window = c.integer("sliding_window", 0);
  m.local_theta = c.real("rope_local_base_freq", m.local_theta);
  m.softcap = c.real("final_logit_softcapping", 0);
  m.query_scalar = c.real("query_pre_attn_scalar", 256);
  // What its readers take for granted.
  const int64_t scalar = m.layers == 62 ? m.width / m.heads : m.head_dim;
  if (m.query_scalar != static_cast<double>(scalar))
    c.fail(format("query_pre_attn_scalar {} has no GGUF form, only {}", m.query_scalar, scalar));
  if (m.local_theta != 10000)
    c.fail(format("rope_local_base_freq {} has no GGUF form, only 10000", m.local_theta));
  for (int64_t i = 0; i < m.layers; ++i) {
    if (m.attends(i) != ((i + 1) % 6 == 0))
      c.fail("layer_types other than every sixth a full one have no GGUF form");
  }
}

void read_qwen3next(const Config& c, GgufModel& m) {
  read_full_layers(c, m);
  m.key_heads = c.integer("linear_num_key_heads");
  m.value_heads = c.integer("linear_num_value_heads");
  m.key_dim = c.integer("linear_key_head_dim");
  m.value_dim = c.integer("linear_value_head_dim");
  m.taps = c.integer("linear_conv_kernel_dim", 4);
  m.shared_ffn = c.integer("shared_expert_intermediate_size");
  if (m.key_dim != m.value_dim)
    c.fail(
        format("key heads of {} and value heads of {} have no GGUF form", m.key_dim, m.value_dim));
  if (m.key_heads < 1 || m.value_heads % m.key_heads != 0)
    c.fail(format("{} value heads on {} key heads", m.value_heads, m.key_heads));
}

}  // namespace

GgufModel gguf_model_of_config(const Json& root, const std::string& source) {
  const Config c(root, source);
  GgufModel m;
  const std::string type = c.text("model_type", "");
  std::string known;
  for (const TypeOfArch& t : kTypes) {
    if (type == t.model_type || type == std::string(t.model_type) + "_text") m.arch = t.arch;
    known += (known.empty() ? "" : ", ") + std::string(t.model_type);
  }
  if (m.arch.empty())
    c.fail(format("model_type \"{}\" has no GGUF form here; these have: {}", type, known));
  const bool gemma = m.arch == "gemma3", kimi = m.arch == "kimi-linear";
  m.layers = c.integer("num_hidden_layers");
  m.width = c.integer("hidden_size");
  m.vocab = c.integer("vocab_size");
  m.ffn = c.integer("intermediate_size", 0);
  m.context = c.integer(kimi ? "model_max_length" : "max_position_embeddings", 131072);
  m.heads = c.integer("num_attention_heads");
  m.kv_heads = c.integer("num_key_value_heads", m.heads);
  m.head_dim = c.integer("head_dim", m.heads > 0 ? m.width / m.heads : 0);
  m.eps = c.real("rms_norm_eps", 1e-6);
  m.tied = c.boolean("tie_word_embeddings", gemma);
  m.attention_bias = c.boolean("attention_bias", false) && m.arch != "qwen2";
  if (gemma && (!m.tied || m.attention_bias)) c.fail("gemma3 with a head or biases of its own");
  if (kimi && m.tied) c.fail("kimi_linear with a tied head has no GGUF form");
  if (c.boolean("use_sliding_window", false) ||
      (!gemma && c.integer("sliding_window", 0) > 0 && m.arch == "llama")) {
    c.fail("sliding windows have no GGUF form for this type");
  }
  if (c.boolean("mlp_bias", false)) c.fail("mlp_bias has no GGUF form here");
  read_positions(c, m);
  if (m.arch == "qwen3moe" || m.arch == "qwen3next" || kimi) read_experts(c, m);
  if (gemma) read_gemma(c, m);
  if (m.arch == "qwen3next") read_qwen3next(c, m);
  if (kimi) read_kimi(c, m);
  return m;
}

}  // namespace braid
