#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/importers/gguf_llama3.h"
#include "braid/importers/gguf_model.h"

namespace braid {
namespace {

constexpr const char* kArchitectures[] = {"llama",  "qwen2",     "qwen3",      "qwen3moe",
                                          "gemma3", "qwen3next", "kimi-linear"};
constexpr int64_t kMostSize = int64_t{1} << 28;
constexpr int64_t kMostLayers = 2048;

// The keys of one architecture.
class Keys {
 public:
  Keys(const GgufFile& file, std::string arch) : file_(file), arch_(std::move(arch)) {}
  const GgufFile& file() const { return file_; }
  const std::string& arch() const { return arch_; }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorKind::kBadInput, format("{}: {}", file_.path(), what));
  }
  std::string name(const char* key) const { return arch_ + "." + key; }
  const GgufValue* find(const char* key) const { return file_.find(name(key)); }

  std::optional<int64_t> maybe(const char* key) const {
    const std::optional<uint64_t> v = file_.uint(name(key));
    if (v && *v > static_cast<uint64_t>(kMostSize))
      fail(format("key \"{}\" is {}, more than {}", name(key), *v, kMostSize));
    return v ? std::optional<int64_t>(static_cast<int64_t>(*v)) : std::nullopt;
  }
  int64_t integer(const char* key, std::optional<int64_t> fallback = std::nullopt) const {
    const std::optional<int64_t> v = maybe(key);
    if (!v && !fallback) fail(format("there is no key \"{}\"", name(key)));
    return v ? *v : *fallback;
  }
  double real(const char* key, double fallback) const {
    const std::optional<double> v = file_.real(name(key));
    if (v && !std::isfinite(*v)) fail(format("key \"{}\" is {}", name(key), *v));
    return v ? shortest_f32(*v) : fallback;
  }
  // One number, or one for every layer.
  std::vector<int64_t> per_layer(const char* key, int64_t layers,
                                 std::optional<int64_t> fallback = std::nullopt) const {
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
  // The one value of a key that may be per layer but must not differ.
  int64_t uniform(const char* key, int64_t layers,
                  std::optional<int64_t> fallback = std::nullopt) const {
    const std::vector<int64_t> all = per_layer(key, layers, fallback);
    if (std::any_of(all.begin(), all.end(), [&](int64_t n) { return n != all[0]; }))
      fail(format("key \"{}\" differs from layer to layer, which {} has no form for here",
                  name(key), arch_));
    return all[0];
  }
  bool has_tensor(const char* tensor) const { return file_.find_tensor(tensor) != nullptr; }

 private:
  const GgufFile& file_;
  std::string arch_;
};

void read_divisors(const Keys& k, GgufModel& m) {
  const GgufTensor* t = k.file().find_tensor("rope_freqs.weight");
  if (t == nullptr) return;
  const int64_t n = m.head_dim / 2;
  if (t->type != GgmlType::kF32 || t->count() != n)
    k.fail(format("rope_freqs.weight is {} values of {}, not {} of F32", t->count(),
                  ggml_type_info(t->type).name, n));
  std::vector<float> values(static_cast<size_t>(n));
  k.file().decode(*t, 0, 1, values.data());
  if (std::all_of(values.begin(), values.end(), [](float v) { return v == 1.0f; })) return;
  for (const float v : values) {
    if (!(v > 0) || !std::isfinite(v)) k.fail(format("rope_freqs.weight holds {}", v));
  }
  m.original_context = k.integer("rope.scaling.original_context_length", 0);
  if (find_llama3(values, m)) return;
  m.scaling = "longrope";  // other numbers: as they stand
  if (m.original_context == 0) m.original_context = m.context;
  m.attention_factor = 1;
  for (const float v : values) m.divisors.push_back(shortest_f32(static_cast<double>(v)));
}

// YaRN multiplies by this unless told otherwise; the file's attn_factor comes on top of it.
double yarn_attention(double factor) { return factor <= 1 ? 1 : 0.1 * std::log(factor) + 1; }

double six_digits(double v) { return parse_real(format("{:.6g}", v)).value_or(v); }

void read_positions(const Keys& k, GgufModel& m) {
  m.theta = k.real("rope.freq_base", 10000);
  m.rotary = k.integer("rope.dimension_count", m.head_dim);
  const std::string type =
      k.file().string(k.name("rope.scaling.type")).value_or(std::string("none"));
  const double factor = k.real("rope.scaling.factor", k.real("rope.scale_linear", 1));
  if (type == "linear" || (type == "none" && factor != 1)) {
    m.scaling = factor == 1 ? "" : "linear";
    m.factor = factor;
  } else if (type == "yarn") {
    m.scaling = "yarn";
    m.factor = factor;
    m.original_context = k.integer("rope.scaling.original_context_length", m.context);
    const double attention = k.real("rope.scaling.attn_factor", 1);
    if (attention != 1) m.attention_factor = six_digits(attention * yarn_attention(factor));
    if (k.find("rope.scaling.yarn_log_multiplier") != nullptr)
      k.fail("rope.scaling.yarn_log_multiplier has no form here");
  } else if (type != "none") {
    k.fail(format("rope.scaling.type is \"{}\"; none, linear and yarn are known", type));
  }
  if (m.scaling.empty()) read_divisors(k, m);
}

void read_experts(const Keys& k, GgufModel& m) {
  m.experts = k.integer("expert_count", 0);
  if (m.experts == 0) return;
  m.used = k.integer("expert_used_count");
  m.expert_ffn = k.integer("expert_feed_forward_length");
  m.routed_scale = k.real("expert_weights_scale", 1);
  if (m.routed_scale == 0) m.routed_scale = 1;  // "none" of older writers
  m.norm_topk = true;
}

void read_gemma(const Keys& k, GgufModel& m) {
  m.window = k.integer("attention.sliding_window", 0);
  m.local_theta = k.real("rope.freq_base_swa", 10000);
  m.softcap = k.real("final_logit_softcapping", 0);
  // The 27B model divides by the width of a head's share of the residual stream.
  m.query_scalar = static_cast<double>(m.layers == 62 ? m.width / m.heads : m.head_dim);
  const double scale = k.real("attention.scale", 0);
  if (scale > 0) m.query_scalar = 1 / (scale * scale);
  const GgufValue* pattern = k.find("attention.sliding_window_pattern");
  if (pattern != nullptr && pattern->kind() == GgufKind::kArray) {
    for (const int64_t slides : k.per_layer("attention.sliding_window_pattern", m.layers))
      m.full.push_back(slides == 0);
    return;
  }
  const int64_t every = k.integer("attention.sliding_window_pattern", 6);
  for (int64_t i = 0; i < m.layers; ++i)
    m.full.push_back(m.window == 0 || every <= 1 || (i + 1) % every == 0);
}

void read_qwen3next(const Keys& k, GgufModel& m) {
  m.taps = k.integer("ssm.conv_kernel");
  m.key_dim = k.integer("ssm.state_size");
  m.key_heads = k.integer("ssm.group_count");
  m.value_heads = k.integer("ssm.time_step_rank");
  const int64_t inner = k.integer("ssm.inner_size");
  if (m.key_heads < 1 || m.value_heads < 1 || m.value_heads % m.key_heads != 0 ||
      inner % m.value_heads != 0) {
    k.fail(format("{} key heads, {} value heads and {} channels of a linear layer do not divide",
                  m.key_heads, m.value_heads, inner));
  }
  m.value_dim = inner / m.value_heads;
  const int64_t every = k.integer("full_attention_interval", 4);
  const GgufValue* recurrent = k.find("attention.recurrent_layers");
  if (recurrent != nullptr && recurrent->kind() == GgufKind::kArray) {
    for (const int64_t r : k.per_layer("attention.recurrent_layers", m.layers))
      m.full.push_back(r == 0);
  } else {
    for (int64_t i = 0; i < m.layers; ++i)
      m.full.push_back((i + 1) % std::max<int64_t>(1, every) == 0);
  }
  if (m.experts == 0) k.fail("qwen3next without experts has no form here");
  m.shared_ffn = k.integer("expert_shared_feed_forward_length", m.ffn);
}

void read_kimi(const Keys& k, GgufModel& m) {
  m.full.clear();
  for (const int64_t n : k.per_layer("attention.head_count_kv", m.layers)) m.full.push_back(n > 0);
  m.taps = k.integer("ssm.conv_kernel");
  m.key_dim = m.value_dim = k.integer("kda.head_dim");
  m.key_heads = m.value_heads = m.heads;
  m.q_lora = k.integer("attention.q_lora_rank", 0);
  m.kv_lora = k.integer("attention.kv_lora_rank");
  m.rope_dim = k.integer("rope.dimension_count");
  m.nope_dim = k.integer("attention.key_length_mla") - m.rope_dim;
  m.v_dim = k.integer("attention.value_length_mla");
  m.dense_lead = k.integer("leading_dense_block_count", 0);
  m.shared_count = k.integer("expert_shared_count", 1);
  m.shared_ffn = m.shared_count * m.expert_ffn;
  const int64_t gate = k.integer("expert_gating_func", 2);
  if (gate != 1 && gate != 2) k.fail(format("expert_gating_func is {}; 1 and 2 are known", gate));
  m.sigmoid_router = gate == 2;
  m.norm_topk = k.file().boolean(k.name("expert_weights_norm")).value_or(true);
  if (m.nope_dim < 1) k.fail(format("attention.key_length_mla leaves {} channels", m.nope_dim));
}

}  // namespace

double shortest_f32(double value) {
  const float narrow = static_cast<float>(value);
  if (static_cast<double>(narrow) != value) return value;
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, narrow);
  double out = value;
  std::from_chars(text, end.ptr, out);
  return out;
}

GgufModel gguf_model_of(const GgufFile& file) {
  GgufModel m;
  m.arch = file.string("general.architecture").value_or("");
  const Keys k(file, m.arch);
  if (std::find(std::begin(kArchitectures), std::end(kArchitectures), m.arch) ==
      std::end(kArchitectures)) {
    std::string known;
    for (const char* a : kArchitectures) known += (known.empty() ? "" : ", ") + std::string(a);
    k.fail(format("general.architecture is \"{}\"; known: {}", m.arch.substr(0, 60), known));
  }
  m.layers = k.integer("block_count");
  if (m.layers < 1 || m.layers > kMostLayers)
    k.fail(format("{} is {}", k.name("block_count"), m.layers));
  // Layers of multi-token prediction stand behind the others.
  m.layers -= std::min(m.layers - 1, k.integer("nextn_predict_layers", 0));
  m.width = k.integer("embedding_length");
  m.context = k.integer("context_length", 0);
  m.ffn = k.uniform("feed_forward_length", m.layers, 0);
  m.heads = k.uniform("attention.head_count", m.layers);
  if (m.heads < 1 || m.width < 1) k.fail(format("{} heads, width {}", m.heads, m.width));
  if (m.arch != "kimi-linear")
    m.kv_heads = k.uniform("attention.head_count_kv", m.layers, m.heads);
  else
    m.kv_heads = m.heads;
  m.head_dim = k.integer("attention.key_length", m.width / m.heads);
  if (m.arch != "kimi-linear" && k.integer("attention.value_length", m.head_dim) != m.head_dim)
    k.fail("attention.key_length and attention.value_length differ");
  m.eps = k.real("attention.layer_norm_rms_epsilon", 1e-6);
  const GgufTensor* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2)
    k.fail("there is no matrix token_embd.weight");
  m.vocab = embedding->shape[0];
  m.tied = !k.has_tensor("output.weight");
  m.attention_bias = m.arch != "qwen2" && k.has_tensor("blk.0.attn_q.bias");
  read_positions(k, m);
  read_experts(k, m);
  if (m.arch == "gemma3") read_gemma(k, m);
  if (m.arch == "qwen3next") read_qwen3next(k, m);
  if (m.arch == "kimi-linear") read_kimi(k, m);
  if (m.experts > 0 && (m.arch == "llama" || m.arch == "qwen2" || m.arch == "qwen3"))
    k.fail(format("{} with {} experts has no form here", m.arch, m.experts));
  return m;
}

namespace {

GgufValue n(int64_t v) { return GgufValue::u32(static_cast<uint32_t>(v)); }
GgufValue x(double v) { return GgufValue::f32(static_cast<float>(v)); }

void put_positions(GgufWriter& w, const GgufModel& m, const std::string& a) {
  w.set(a + "rope.freq_base", x(m.theta));
  if (m.arch != "kimi-linear") w.set(a + "rope.dimension_count", n(m.rotary));
  if (m.scaling == "llama3" || m.scaling == "longrope")  // divisors are a tensor
    w.set(a + "rope.scaling.original_context_length", n(m.original_context));
  if (m.scaling != "linear" && m.scaling != "yarn") return;
  w.set(a + "rope.scaling.type", GgufValue::string(m.scaling));
  w.set(a + "rope.scaling.factor", x(m.factor));
  if (m.scaling == "linear") return;
  w.set(a + "rope.scaling.original_context_length", n(m.original_context));
  if (m.attention_factor > 0)
    w.set(a + "rope.scaling.attn_factor", x(m.attention_factor / yarn_attention(m.factor)));
}

void put_kimi(GgufWriter& w, const GgufModel& m, const std::string& a) {
  std::vector<int32_t> kv;
  for (int64_t i = 0; i < m.layers; ++i) kv.push_back(m.attends(i) ? 1 : 0);
  w.set(a + "attention.head_count_kv", GgufValue::i32s(kv));
  w.set(a + "ssm.conv_kernel", n(m.taps));
  w.set(a + "kda.head_dim", n(m.key_dim));
  if (m.q_lora > 0) w.set(a + "attention.q_lora_rank", n(m.q_lora));
  w.set(a + "attention.kv_lora_rank", n(m.kv_lora));
  w.set(a + "rope.dimension_count", n(m.rope_dim));
  w.set(a + "attention.key_length", n(m.kv_lora + m.rope_dim));
  w.set(a + "attention.value_length", n(m.kv_lora));
  w.set(a + "attention.key_length_mla", n(m.nope_dim + m.rope_dim));
  w.set(a + "attention.value_length_mla", n(m.v_dim));
  w.set(a + "expert_shared_count", n(m.shared_count));
  w.set(a + "leading_dense_block_count", n(m.dense_lead));
  w.set(a + "expert_weights_scale", x(m.routed_scale));
  w.set(a + "expert_weights_norm", GgufValue::boolean(m.norm_topk));
  w.set(a + "expert_gating_func", n(m.sigmoid_router ? 2 : 1));
  w.set(a + "vocab_size", n(m.vocab));
}

void put_qwen3next(GgufWriter& w, const GgufModel& m, const std::string& a) {
  w.set(a + "ssm.conv_kernel", n(m.taps));
  w.set(a + "ssm.state_size", n(m.key_dim));
  w.set(a + "ssm.group_count", n(m.key_heads));
  w.set(a + "ssm.time_step_rank", n(m.value_heads));
  w.set(a + "ssm.inner_size", n(m.value_heads * m.value_dim));
  w.set(a + "expert_shared_feed_forward_length", n(m.shared_ffn));
  int64_t every = 0;
  for (int64_t i = 0; i < m.layers && every == 0; ++i) every = m.attends(i) ? i + 1 : 0;
  bool regular = every > 0;
  for (int64_t i = 0; regular && i < m.layers; ++i)
    regular = m.attends(i) == ((i + 1) % every == 0);
  if (regular) {
    w.set(a + "full_attention_interval", n(every));
    return;
  }
  std::vector<int32_t> recurrent;
  for (int64_t i = 0; i < m.layers; ++i) recurrent.push_back(m.attends(i) ? 0 : 1);
  w.set(a + "attention.recurrent_layers", GgufValue::i32s(recurrent));
}

}  // namespace

void put_metadata(GgufWriter& w, const GgufModel& m) {
  const std::string a = m.arch + ".";
  w.set("general.architecture", GgufValue::string(m.arch));
  w.set(a + "block_count", n(m.layers));
  w.set(a + "context_length", n(m.context));
  w.set(a + "embedding_length", n(m.width));
  w.set(a + "feed_forward_length", n(m.ffn));
  w.set(a + "attention.head_count", n(m.heads));
  w.set(a + "attention.layer_norm_rms_epsilon", x(m.eps));
  put_positions(w, m, a);
  if (m.arch == "llama") w.set(a + "vocab_size", n(m.vocab));
  if (m.experts > 0) {
    w.set(a + "expert_count", n(m.experts));
    w.set(a + "expert_used_count", n(m.used));
    w.set(a + "expert_feed_forward_length", n(m.expert_ffn));
  }
  if (m.arch == "kimi-linear") return put_kimi(w, m, a);
  w.set(a + "attention.head_count_kv", n(m.kv_heads));
  w.set(a + "attention.key_length", n(m.head_dim));
  w.set(a + "attention.value_length", n(m.head_dim));
  if (m.arch == "qwen3next") put_qwen3next(w, m, a);
  if (m.arch != "gemma3") return;
  if (m.softcap > 0) w.set(a + "final_logit_softcapping", x(m.softcap));
  if (m.window > 0) w.set(a + "attention.sliding_window", n(m.window));
}

}  // namespace braid
