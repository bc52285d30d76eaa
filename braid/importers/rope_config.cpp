// Rotary positions as config.json says them: rope_theta with rope_scaling, or rope_parameters.

#include <algorithm>
#include <cmath>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/importers/common.h"

namespace braid {
namespace {

class RopeReader {
 public:
  RopeReader(const ConfigReader& config, const Json& rope) : config_(config), rope_(rope) {
    if (!rope.is_object()) {
      config.fail(format("the rope settings are {}, not an object", printable(rope.dump())));
    }
  }
  std::optional<double> maybe(const char* key) const {
    const Json* v = rope_.find(key);
    if (v == nullptr || v->is_null()) return std::nullopt;
    if (!v->is_number() || !std::isfinite(v->as_real()))
      config_.fail(format("rope {} is {}, not a number", key, printable(v->dump())));
    return v->as_real();
  }
  double positive(const char* key, std::optional<double> fallback) const {
    const std::optional<double> v = maybe(key);
    if (!v && !fallback) config_.fail(format("rope {} is missing", key));
    const double value = v.value_or(fallback.value_or(0));
    if (!(value > 0)) config_.fail(format("rope {} is {}, not positive", key, value));
    return value;
  }
  bool truth(const char* key, bool fallback) const {
    const Json* v = rope_.find(key);
    if (v == nullptr || v->is_null()) return fallback;
    if (v->kind() != Json::Kind::kBool)
      config_.fail(format("rope {} is {}, neither true nor false", key, printable(v->dump())));
    return v->as_bool();
  }
  std::string list(const char* key) const {
    const Json* v = rope_.find(key);
    if (v == nullptr || !v->is_array() || v->size() == 0 || v->size() > 4096)
      config_.fail(format("rope {} is not a list of numbers", key));
    std::string out;
    for (const Json& n : v->elements()) {
      if (!n.is_number() || !(n.as_real() > 0) || !std::isfinite(n.as_real()))
        config_.fail(format("rope {} holds {}, not a positive number", key, printable(n.dump())));
      out += ':';
      out += shortest_text(n.as_real());
    }
    return out;
  }
  std::string type() const {
    for (const char* key : {"rope_type", "type"}) {
      const Json* v = rope_.find(key);
      if (v == nullptr || v->is_null()) continue;
      if (!v->is_string()) config_.fail(format("{} is {}, not a text", key, printable(v->dump())));
      return v->as_string();
    }
    return "default";
  }
  void refuse_unknown() const {
    constexpr std::string_view kKnown[] = {
        "rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor",
        "original_max_position_embeddings", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
        "attention_factor", "truncate", "short_factor", "long_factor", "partial_rotary_factor",
        // Positions of text are the same in all three sections.
        "mrope_section", "mrope_interleaved", "finetuned"};
    for (const Json::Member& m : rope_.members()) {
      if (!m.value.is_null() &&
          std::find(std::begin(kKnown), std::end(kKnown), m.key) == std::end(kKnown)) {
        config_.fail(format("rope settings hold {} = {}, which is not known", printable(m.key),
                            printable(m.value.dump())));
      }
    }
  }

 private:
  const ConfigReader& config_;
  const Json& rope_;
};

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

std::string yarn_text(const RopeReader& r, double max_positions, double* mscale) {
  const double base = r.positive("original_max_position_embeddings", max_positions);
  const double factor = r.positive("factor", max_positions / base);
  const double one = r.maybe("mscale").value_or(0), all = r.maybe("mscale_all_dim").value_or(0);
  double attention = yarn_mscale(factor, 1);
  if (one != 0 && all != 0) attention = yarn_mscale(factor, one) / yarn_mscale(factor, all);
  attention = r.maybe("attention_factor").value_or(attention);
  if (mscale != nullptr && all != 0) *mscale = yarn_mscale(factor, all);
  return format("yarn:{}:{}:{}:{}:{}:{}", shortest_text(factor), shortest_text(base),
                shortest_text(r.positive("beta_fast", 32)),
                shortest_text(r.positive("beta_slow", 1)), r.truth("truncate", true),
                shortest_text(attention));
}

std::string longrope_text(const RopeReader& r, double max_positions) {
  const double base = r.positive("original_max_position_embeddings", max_positions);
  const double s = r.positive("factor", max_positions / base);
  const double attention = r.maybe("attention_factor")
                               .value_or(s <= 1 ? 1 : std::sqrt(1 + std::log(s) / std::log(base)));
  return format("longrope:{}:{}{}{}", shortest_text(base), shortest_text(attention),
                r.list("short_factor"), r.list("long_factor"));
}

// The settings for a layer type, of an object that may be keyed by it.
const Json& pick_parameters(const ConfigReader& config, const char* key, const Json& all,
                            const char* layer_type) {
  if (!is_keyed(config, key, all)) return all;
  for (const Json::Member& m : all.members()) {
    if (!m.key.ends_with("_attention"))
      config.fail(format("{} holds both layer types and {}", key, printable(m.key)));
  }
  const char* type = layer_type != nullptr ? layer_type : "full_attention";
  const Json* own = all.find(type);
  if (own == nullptr || own->is_null()) config.fail(format("{} lacks {}", key, type));
  return *own;
}

// What one of rope_parameters and rope_scaling says, over what the keys beside it do.
RopeSettings read_parameters(const ConfigReader& config, const char* key, const Json& all,
                             const char* layer_type, double max_positions, RopeSettings out) {
  const Json& own = pick_parameters(config, key, all, layer_type);
  const RopeReader r(config, own);
  out.theta = r.positive("rope_theta", out.theta);
  out.partial = r.positive("partial_rotary_factor", out.partial);
  if (max_positions > 0) out.scaling = rope_scaling_text(config, own, max_positions, &out.mscale);
  return out;
}

}  // namespace

std::string rope_scaling_text(const ConfigReader& config, const Json& rope, double max_positions,
                              double* mscale) {
  const RopeReader r(config, rope);
  r.refuse_unknown();
  const std::string type = r.type();
  if (type == "default" || type == "mrope") return "";
  if (type == "linear") return "linear:" + shortest_text(r.positive("factor", std::nullopt));
  if (type == "dynamic") {
    const double from = r.positive("original_max_position_embeddings", max_positions);
    return format("dynamic:{}:{}", shortest_text(r.positive("factor", std::nullopt)),
                  shortest_text(from));
  }
  if (type == "llama3") {
    return format("llama3:{}:{}:{}:{}", shortest_text(r.positive("factor", std::nullopt)),
                  shortest_text(r.positive("low_freq_factor", std::nullopt)),
                  shortest_text(r.positive("high_freq_factor", std::nullopt)),
                  shortest_text(r.positive("original_max_position_embeddings", std::nullopt)));
  }
  if (type == "yarn") return yarn_text(r, max_positions, mscale);
  if (type == "longrope") return longrope_text(r, max_positions);
  config.fail(
      format("rope_type is \"{}\"; default, linear, dynamic, llama3, yarn and longrope are "
             "known",
             printable(type)));
}

bool is_keyed(const ConfigReader& config, const char* key, const Json& rope) {
  if (!rope.is_object())
    config.fail(format("{} is {}, not an object", key, printable(rope.dump())));
  return std::any_of(rope.members().begin(), rope.members().end(),
                     [](const Json::Member& m) { return m.value.is_object(); });
}

RopeSettings read_rope(ConfigReader& config, const RopeDefaults& defaults, const char* layer_type) {
  RopeSettings plain;
  const double max_positions = static_cast<double>(
      config.integer("max_position_embeddings", defaults.max_positions, int64_t{1} << 40));
  plain.theta = config.real(defaults.theta_key, defaults.theta);
  plain.partial = config.real("partial_rotary_factor", defaults.partial);
  std::optional<RopeSettings> out;
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const Json* all = config.find(key);
    if (all == nullptr || (defaults.unscaled && std::string_view(key) == "rope_scaling")) continue;
    const RopeSettings own = read_parameters(config, key, *all, layer_type, max_positions, plain);
    if (out && *out != own) config.fail("rope_parameters and rope_scaling say different things");
    // A key beside them that differs counts in some releases of transformers and not in others.
    if (!is_keyed(config, key, *all)) {
      if (config.has(defaults.theta_key) && own.theta != plain.theta)
        config.fail(
            format("{} is {}, {} says {}", defaults.theta_key, plain.theta, key, own.theta));
      if (config.has("partial_rotary_factor") && own.partial != plain.partial)
        config.fail(
            format("partial_rotary_factor is {}, {} says {}", plain.partial, key, own.partial));
    }
    out = own;
  }
  if (!out) out = plain;
  if (!(out->theta > 0))
    config.fail(format("{} is {}, not positive", defaults.theta_key, out->theta));
  if (!(out->partial > 0 && out->partial <= 1))
    config.fail(format("partial_rotary_factor is {}, not in (0, 1]", out->partial));
  return *out;
}

RopeSettings read_partial_rope(ConfigReader& config, RopeDefaults defaults, int64_t head_dim) {
  const double wide = static_cast<double>(head_dim);
  const std::optional<int64_t> turning = config.maybe_integer({"rotary_dim"});
  if (turning) defaults.partial = static_cast<double>(*turning) / wide;
  const RopeSettings rope = read_rope(config, defaults);
  if (turning && std::llround(rope.partial * wide) != *turning)
    config.fail(format("rotary_dim is {} of {}, partial_rotary_factor {}", *turning, head_dim,
                       rope.partial));
  return rope;
}

}  // namespace braid
