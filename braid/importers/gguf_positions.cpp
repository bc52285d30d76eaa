// How positions turn and stretch, in config.json and in a file's keys.

#include <algorithm>
#include <cmath>
#include <limits>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/importers/gguf_exchange.h"
#include "braid/importers/gguf_llama3.h"

namespace braid {
namespace {

using Positions = GgufExchange::Positions;

// YaRN multiplies by this unless told otherwise; the file's attn_factor comes on top of it.
double yarn_attention(double factor) { return factor <= 1 ? 1 : 0.1 * std::log(factor) + 1; }

double six_digits(double v) { return parse_real(format("{:.6g}", v)).value_or(v); }

Json scaling_json(const GgufModel& m, const Positions& p) {
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
    return s;
  }
  if (m.attention_factor > 0) s.set("attention_factor", m.attention_factor);
  if (m.beta_fast != 32) s.set("beta_fast", m.beta_fast);
  if (m.beta_slow != 1) s.set("beta_slow", m.beta_slow);
  if (!p.truncated_yarn) s.set("truncate", false);
  if (m.mscale > 0) {
    s.set("mscale", m.mscale);
    s.set("mscale_all_dim", m.mscale);
  }
  return s;
}

double real_of(const Json& object, const char* key, double fallback) {
  const Json* v = object.find(key);
  return v == nullptr || v->is_null() ? fallback : v->as_real();
}

// A length that config.json may write as 8192.0; GGUF holds it as a whole number of 32 bits.
int64_t length_of(const GgufConfig& c, const Json& object, const char* key, int64_t fallback) {
  const double v = real_of(object, key, static_cast<double>(fallback));
  if (!(v >= 0 && v <= std::numeric_limits<int32_t>::max()) || v != std::floor(v))
    c.fail(format("{} is {}, which has no GGUF form", key, v));
  return static_cast<int64_t>(v);
}

void read_yarn(const GgufConfig& c, const Json& s, const Positions& p, GgufModel& m) {
  m.beta_fast = real_of(s, "beta_fast", 32);
  m.beta_slow = real_of(s, "beta_slow", 1);
  const Json* truncate = s.find("truncate");
  const bool truncated = truncate == nullptr || truncate->is_null() || truncate->as_bool();
  if (truncated != p.truncated_yarn)
    c.fail(format("yarn with truncate {} has no GGUF form for {}", truncated, m.arch));
  const double one = real_of(s, "mscale", 0), all = real_of(s, "mscale_all_dim", 0);
  if (one == 0 && all == 0) return;
  if (!p.mscale || one != all)
    c.fail(format("yarn with mscale {} and mscale_all_dim {} has no GGUF form{}", one, all,
                  p.mscale ? ", only the same for both" : " here"));
  m.mscale = all;
}

void read_longrope(const GgufConfig& c, const Json& s, GgufModel& m) {
  const Json &longs = s.at("long_factor"), &shorts = s.at("short_factor");
  if (!(longs == shorts) || m.attention_factor != 1)
    c.fail("longrope with two lists of factors has no GGUF form here");
  for (const Json& d : longs.elements()) m.divisors.push_back(d.as_real());
  if (m.divisors.size() != static_cast<size_t>(m.head_dim / 2))
    c.fail(format("{} rope factors for heads of {}", m.divisors.size(), m.head_dim));
}

void read_scaling(const GgufConfig& c, const Json& s, const Positions& p, GgufModel& m) {
  const Json* type = s.find("rope_type");
  if (type == nullptr) type = s.find("type");
  const std::string name = type == nullptr ? "default" : type->as_string();
  if (name == "default") return;
  if (name != "linear" && name != "yarn" && name != "llama3" && name != "longrope")
    c.fail(format("rope type \"{}\" has no GGUF form here", name));
  if (!p.divisors && (name == "llama3" || name == "longrope"))
    c.fail(format("rope type \"{}\" has no GGUF form for {}", name, m.arch));
  m.scaling = name;
  m.factor = real_of(s, "factor", 1);
  m.original_context = length_of(c, s, "original_max_position_embeddings", m.context);
  m.attention_factor = real_of(s, "attention_factor", 0);
  m.low = real_of(s, "low_freq_factor", 1);
  m.high = real_of(s, "high_freq_factor", 4);
  if (name == "yarn") read_yarn(c, s, p, m);
  if (name == "longrope") read_longrope(c, s, m);
}

// rope_scaling or rope_parameters, which may stand once for each layer type.
void read_config(const GgufConfig& c, const Positions& p, GgufModel& m) {
  const Json* s = c.find("rope_parameters");
  const Json* local = s != nullptr ? s->find("sliding_attention") : nullptr;
  if (local != nullptr && local->is_object())
    m.local_theta = real_of(*local, "rope_theta", m.local_theta);
  if (s != nullptr && s->find("full_attention") != nullptr) s = s->find("full_attention");
  m.theta = p.theta;
  if (s != nullptr && s->is_object()) m.theta = real_of(*s, "rope_theta", m.theta);
  m.theta = c.real("rope_theta", m.theta);
  double partial = c.real("partial_rotary_factor", p.partial);
  if (s != nullptr && s->is_object()) partial = real_of(*s, "partial_rotary_factor", partial);
  if (!(partial > 0 && partial <= 1))
    c.fail(format("partial_rotary_factor is {}, not in (0, 1]", partial));
  m.rotary = static_cast<int64_t>(std::llround(static_cast<double>(m.head_dim) * partial));
  if (const Json* own = c.find("rope_scaling")) s = own;
  if (s != nullptr && s->is_object()) read_scaling(c, *s, p, m);
}

void read_divisors(const GgufKeys& k, GgufModel& m) {
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

void read_yarn_keys(const GgufKeys& k, const Positions& p, double factor, GgufModel& m) {
  m.scaling = "yarn";
  m.factor = factor;
  m.original_context = k.integer("rope.scaling.original_context_length", m.context);
  const double attention = k.real("rope.scaling.attn_factor", 1);
  if (attention != 1) m.attention_factor = six_digits(attention * yarn_attention(factor));
  m.beta_fast = k.real("rope.scaling.yarn_beta_fast", 32);
  m.beta_slow = k.real("rope.scaling.yarn_beta_slow", 1);
  const double log = k.real("rope.scaling.yarn_log_multiplier", 0);
  if (log != 0 && (!p.mscale || attention != 1))
    k.fail("rope.scaling.yarn_log_multiplier has no form here");
  m.mscale = six_digits(log * 10);  // its writers put a tenth of mscale_all_dim there
}

void read_keys(const GgufKeys& k, const Positions& p, GgufModel& m) {
  m.theta = k.real("rope.freq_base", 10000);
  m.rotary = k.integer("rope.dimension_count", m.head_dim);
  const std::string type =
      k.file().string(k.name("rope.scaling.type")).value_or(std::string("none"));
  const double factor = k.real("rope.scaling.factor", k.real("rope.scale_linear", 1));
  if (type == "linear" || (type == "none" && factor != 1)) {
    m.scaling = factor == 1 ? "" : "linear";
    m.factor = factor;
  } else if (type == "yarn") {
    read_yarn_keys(k, p, factor, m);
  } else if (type != "none") {
    k.fail(format("rope.scaling.type is \"{}\"; none, linear and yarn are known", type));
  }
  if (m.scaling.empty()) read_divisors(k, m);
}

void write_keys(GgufExchange& x, const GgufModel& m) {
  x.set("rope.freq_base", gguf_real(m.theta));
  x.set("rope.dimension_count", gguf_integer(m.rotary));
  if (m.scaling == "llama3" || m.scaling == "longrope")  // divisors are a tensor
    x.set("rope.scaling.original_context_length", gguf_integer(m.original_context));
  if (m.scaling != "linear" && m.scaling != "yarn") return;
  x.set("rope.scaling.type", GgufValue::string(m.scaling));
  x.set("rope.scaling.factor", gguf_real(m.factor));
  if (m.scaling == "linear") return;
  x.set("rope.scaling.original_context_length", gguf_integer(m.original_context));
  if (m.attention_factor > 0)
    x.set("rope.scaling.attn_factor", gguf_real(m.attention_factor / yarn_attention(m.factor)));
  if (m.beta_fast != 32) x.set("rope.scaling.yarn_beta_fast", gguf_real(m.beta_fast));
  if (m.beta_slow != 1) x.set("rope.scaling.yarn_beta_slow", gguf_real(m.beta_slow));
  if (m.mscale > 0) x.set("rope.scaling.yarn_log_multiplier", gguf_real(m.mscale / 10));
}

}  // namespace

void GgufExchange::positions(GgufModel& m, const Positions& p) {
  if (from_config() != nullptr) read_config(*from_config(), p, m);
  if (from_file() != nullptr) read_keys(*from_file(), p, m);
  if (to_file() != nullptr) write_keys(*this, m);
  Json* c = to_config();
  if (c == nullptr) return;
  c->set("rope_theta", m.theta);
  if (p.says_partial)
    c->set("partial_rotary_factor",
           static_cast<double>(m.rotary) / static_cast<double>(std::max<int64_t>(1, m.head_dim)));
  if (!m.scaling.empty()) c->set("rope_scaling", scaling_json(m, p));
}

}  // namespace braid
