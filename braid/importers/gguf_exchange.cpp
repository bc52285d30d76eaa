#include "braid/importers/gguf_exchange.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "braid/base/error.h"
#include "braid/base/format.h"

namespace braid {
namespace {

constexpr int64_t kMostSize = int64_t{1} << 28;
constexpr int64_t kMostLayers = 2048;

}  // namespace

void GgufKeys::fail(const std::string& what) const {
  throw Error(ErrorKind::kBadInput, format("{}: {}", file_.path(), what));
}

int64_t GgufKeys::integer(const char* key, std::optional<int64_t> fallback) const {
  const std::optional<uint64_t> v = file_.uint(name(key));
  if (v && *v > static_cast<uint64_t>(kMostSize))
    fail(format("key \"{}\" is {}, more than {}", name(key), *v, kMostSize));
  if (!v && !fallback) fail(format("there is no key \"{}\"", name(key)));
  return v ? static_cast<int64_t>(*v) : *fallback;
}

double GgufKeys::real(const char* key, double fallback) const {
  const std::optional<double> v = file_.real(name(key));
  if (v && !std::isfinite(*v)) fail(format("key \"{}\" is {}", name(key), *v));
  return v ? shortest_f32(*v) : fallback;
}

bool GgufKeys::truth(const char* key, bool fallback) const {
  return file_.boolean(name(key)).value_or(fallback);
}

std::vector<int64_t> GgufKeys::per_layer(const char* key, int64_t layers,
                                         std::optional<int64_t> fallback) const {
  const GgufValue* v = find(key);
  if (v == nullptr || v->kind() != GgufKind::kArray)
    return std::vector<int64_t>(static_cast<size_t>(layers), integer(key, fallback));
  if (v->size() < static_cast<size_t>(layers))
    fail(format("key \"{}\" has {} values for {} layers", name(key), v->size(), layers));
  std::vector<int64_t> out;
  for (int64_t i = 0; i < layers; ++i) {
    out.push_back(v->int_at(static_cast<size_t>(i)));
    if (out.back() < 0 || out.back() > kMostSize)
      fail(format("key \"{}\" holds {}", name(key), out.back()));
  }
  return out;
}

int64_t GgufKeys::uniform(const char* key, int64_t layers, std::optional<int64_t> fallback) const {
  const std::vector<int64_t> all = per_layer(key, layers, fallback);
  if (std::any_of(all.begin(), all.end(), [&](int64_t n) { return n != all[0]; }))
    fail(format("key \"{}\" differs from layer to layer, which {} has no form for here", name(key),
                arch_));
  return all[0];
}

GgufConfig::GgufConfig(const Json& root, std::string source) : source_(std::move(source)) {
  const Json* text = root.is_object() ? root.find("text_config") : nullptr;
  config_ = text != nullptr && text->is_object() ? text : &root;
}

void GgufConfig::fail(const std::string& what) const {
  throw Error(ErrorKind::kBadInput, format("{}: {}", source_, what));
}

const Json* GgufConfig::find(const char* key) const {
  const Json* v = config_->find(key);
  return v == nullptr || v->is_null() ? nullptr : v;
}

bool GgufConfig::says_null(const char* key) const {
  const Json* v = config_->find(key);
  return v != nullptr && v->is_null();
}

int64_t GgufConfig::integer(const char* key, std::optional<int64_t> fallback) const {
  const Json* v = find(key);
  if (v == nullptr && !fallback) fail(format("there is no {}", key));
  const int64_t n = v == nullptr ? *fallback : v->as_int();
  if (n < 0 || n > std::numeric_limits<int32_t>::max()) fail(format("{} is {}", key, n));
  return n;
}

double GgufConfig::real(const char* key, double fallback) const {
  const Json* v = find(key);
  return v == nullptr ? fallback : v->as_real();
}

bool GgufConfig::truth(const char* key, bool fallback) const {
  const Json* v = find(key);
  return v == nullptr ? fallback : v->as_bool();
}

std::string GgufConfig::text(const char* key, const std::string& fallback) const {
  const Json* v = find(key);
  return v == nullptr ? fallback : v->as_string();
}

std::vector<std::string> GgufConfig::texts(const char* key) const {
  std::vector<std::string> out;
  if (const Json* v = find(key)) {
    for (const Json& t : v->elements()) out.push_back(t.as_string());
  }
  return out;
}

GgufValue gguf_integer(int64_t v) { return GgufValue::u32(static_cast<uint32_t>(v)); }
GgufValue gguf_real(double v) { return GgufValue::f32(static_cast<float>(v)); }

std::vector<bool> every_nth_full(int64_t layers, int64_t every) {
  std::vector<bool> full;
  for (int64_t i = 0; i < layers; ++i) full.push_back((i + 1) % std::max<int64_t>(1, every) == 0);
  return full;
}

void GgufExchange::set(const char* key, GgufValue value) {
  writer_->set(arch_ + "." + key, std::move(value));
}

void GgufExchange::fail(const std::string& what) const {
  if (config_ != nullptr) config_->fail(what);
  if (keys_ != nullptr) keys_->fail(what);
  throw Error(ErrorKind::kBadInput, what);
}

void GgufExchange::integer(int64_t& value, const char* hf, const char* key,
                           std::optional<int64_t> fallback) {
  const bool in_config = *hf != '\0', in_file = *key != '\0';
  if (config_ != nullptr && in_config) value = config_->integer(hf, fallback);
  if (keys_ != nullptr && in_file) value = keys_->integer(key, fallback);
  if (made_ != nullptr && in_config) made_->set(hf, value);
  if (writer_ != nullptr && in_file) set(key, gguf_integer(value));
}

void GgufExchange::real(double& value, const char* hf, const char* key, double fallback) {
  const bool in_config = *hf != '\0', in_file = *key != '\0';
  if (config_ != nullptr && in_config) value = config_->real(hf, fallback);
  if (keys_ != nullptr && in_file) value = keys_->real(key, fallback);
  if (made_ != nullptr && in_config) made_->set(hf, value);
  if (writer_ != nullptr && in_file) set(key, gguf_real(value));
}

void GgufExchange::truth(bool& value, const char* hf, const char* key, bool fallback) {
  const bool in_config = *hf != '\0', in_file = *key != '\0';
  if (config_ != nullptr && in_config) value = config_->truth(hf, fallback);
  if (keys_ != nullptr && in_file) value = keys_->truth(key, fallback);
  if (made_ != nullptr && in_config) made_->set(hf, value);
  if (writer_ != nullptr && in_file) set(key, GgufValue::boolean(value));
}

void GgufExchange::optional(int64_t& value, const char* hf, const char* key) {
  if (config_ != nullptr) value = config_->integer(hf, 0);
  if (keys_ != nullptr) value = keys_->integer(key, 0);
  if (made_ != nullptr) made_->set(hf, value > 0 ? Json(value) : Json());
  if (writer_ != nullptr && value > 0) set(key, gguf_integer(value));
}

void GgufExchange::says(const char* hf, Json value) {
  if (made_ != nullptr) made_->set(hf, std::move(value));
}

void GgufExchange::always(const char* hf, const Json& value, const Json& absent) {
  says(hf, value);
  if (config_ == nullptr) return;
  const Json* v = config_->find(hf);
  if (!((v == nullptr ? absent : *v) == value))
    config_->fail(format("{} {} has no GGUF form here", hf, (v == nullptr ? absent : *v).dump()));
}

void GgufExchange::never(const char* hf) {
  const Json* v = config_ != nullptr ? config_->find(hf) : nullptr;
  if (v == nullptr) return;
  const bool set = v->is_number() ? v->as_real() > 0 : v->is_array() ? v->size() > 0 : v->as_bool();
  if (set) config_->fail(format("{} {} has no GGUF form here", hf, v->dump()));
}

void GgufExchange::sizes(GgufModel& m, const Sizes& s) {
  if (keys_ != nullptr) {
    m.layers = keys_->integer("block_count");
    if (m.layers < 1 || m.layers > kMostLayers)
      keys_->fail(format("{} is {}", keys_->name("block_count"), m.layers));
    // Layers of multi-token prediction stand behind the others.
    m.layers -= std::min(m.layers - 1, keys_->integer("nextn_predict_layers", 0));
  } else {
    integer(m.layers, s.layers, "block_count");
  }
  integer(m.width, s.width, "embedding_length");
  if (keys_ != nullptr) {
    m.ffn = keys_->uniform("feed_forward_length", m.layers, 0);
    m.heads = keys_->uniform("attention.head_count", m.layers);
  } else {
    integer(m.ffn, s.ffn, "feed_forward_length", 0);
    integer(m.heads, s.heads, "attention.head_count");
  }
  if (keys_ != nullptr && (m.heads < 1 || m.width < 1))
    keys_->fail(format("{} heads, width {}", m.heads, m.width));
  if (config_ != nullptr) m.context = config_->integer(s.context, 131072);
  if (made_ != nullptr && m.context > 0) made_->set(s.context, m.context);
  integer(m.context, "", "context_length", 0);
  real(m.eps, s.eps_key, s.eps_in_file, s.eps);
  says("use_cache", true);
}

void GgufExchange::heads(GgufModel& m) {
  const int64_t even = m.heads > 0 ? m.width / m.heads : 0;
  if (keys_ != nullptr)
    m.kv_heads = keys_->uniform("attention.head_count_kv", m.layers, m.heads);
  else
    integer(m.kv_heads, "num_key_value_heads", "attention.head_count_kv", m.heads);
  integer(m.head_dim, "head_dim", "attention.key_length", even);
  int64_t value_dim = m.head_dim;
  integer(value_dim, "", "attention.value_length", m.head_dim);
  if (value_dim != m.head_dim) fail("attention.key_length and attention.value_length differ");
}

void GgufExchange::attention_bias(GgufModel& m, bool fallback) {
  truth(m.attention_bias, "attention_bias", "", fallback);
  if (keys_ != nullptr) m.attention_bias = keys_->has_tensor("blk.0.attn_q.bias");
}

void GgufExchange::experts(GgufModel& m, const char* count, const char* used) {
  integer(m.experts, count, "expert_count");
  integer(m.used, used, "expert_used_count");
  integer(m.expert_ffn, "moe_intermediate_size", "expert_feed_forward_length");
}

void GgufExchange::scale_of_experts(GgufModel& m, double absent) {
  real(m.routed_scale, "routed_scaling_factor", "expert_weights_scale",
       config_ != nullptr ? absent : 1);
  if (m.routed_scale == 0) m.routed_scale = 1;  // "none" of older writers
}

void GgufExchange::gating(GgufModel& m) {
  int64_t gate = m.sigmoid_router ? 2 : 1;
  integer(gate, "", "expert_gating_func", 2);
  if (gate != 1 && gate != 2) fail(format("expert_gating_func is {}; 1 and 2 are known", gate));
  m.sigmoid_router = gate == 2;
}

void GgufExchange::sigmoid_experts(GgufModel& m, const Router& r) {
  experts(m, "n_routed_experts");
  integer(m.shared_count, "n_shared_experts", "expert_shared_count", 1);
  m.shared_ffn = m.shared_count * m.expert_ffn;
  integer(m.dense_lead, "first_k_dense_replace", "leading_dense_block_count",
          config_ != nullptr ? r.dense_lead : 0);
  scale_of_experts(m, r.scale);
  truth(m.norm_topk, "norm_topk_prob", "expert_weights_norm", config_ != nullptr);
  m.sigmoid_router = true;
  gating(m);
  if (!m.sigmoid_router) fail("a router with softmax has no form here");
  never("mlp_layer_types");
  integer(m.groups, "n_group", "", r.groups);
  integer(m.groups_used, "topk_group", "", r.groups_used);
  if (keys_ != nullptr) {
    m.groups = std::max<int64_t>(1, keys_->integer("expert_group_count", 1));
    m.groups_used = std::max<int64_t>(1, keys_->integer("expert_group_used_count", 1));
  }
  if (writer_ == nullptr || m.groups <= 1) return;
  set("expert_group_count", gguf_integer(m.groups));
  set("expert_group_used_count", gguf_integer(m.groups_used));
}

void GgufExchange::latent(GgufModel& m) {
  optional(m.q_lora, "q_lora_rank", "attention.q_lora_rank");
  integer(m.kv_lora, "kv_lora_rank", "attention.kv_lora_rank");
  integer(m.nope_dim, "qk_nope_head_dim", "");
  integer(m.rope_dim, "qk_rope_head_dim", "rope.dimension_count");
  int64_t head = m.nope_dim + m.rope_dim;
  if (keys_ != nullptr && keys_->find("attention.key_length_mla") == nullptr) {
    // Older files say what every head has.
    head = keys_->integer("attention.key_length");
    m.v_dim = keys_->integer("attention.value_length");
  } else {
    integer(head, "", "attention.key_length_mla");
    integer(m.v_dim, "", "attention.value_length_mla");
  }
  integer(m.v_dim, "v_head_dim", "");
  m.nope_dim = head - m.rope_dim;
  if (m.nope_dim < 1) fail(format("attention.key_length_mla leaves {} channels", m.nope_dim));
  if (to_file() == nullptr) return;
  set("attention.key_length", gguf_integer(m.kv_lora + m.rope_dim));
  set("attention.value_length", gguf_integer(m.kv_lora));
}

void GgufExchange::layer_types(GgufModel& m, const char* other, const char* every_key,
                               int64_t every) {
  if (made_ != nullptr) {
    Json types = Json::array();
    for (const bool f : m.full) types.push(f ? "full_attention" : other);
    made_->set("layer_types", std::move(types));
  }
  if (config_ == nullptr) return;
  const std::vector<std::string> types = config_->texts("layer_types");
  if (types.empty()) {
    m.full =
        every_nth_full(m.layers, *every_key != '\0' ? config_->integer(every_key, every) : every);
    return;
  }
  if (types.size() != static_cast<size_t>(m.layers))
    config_->fail(format("{} layer_types for {} layers", types.size(), m.layers));
  m.full.clear();
  for (const std::string& t : types) m.full.push_back(t == "full_attention");
}

}  // namespace braid
