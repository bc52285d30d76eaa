#include "braid/importers/common.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"

namespace braid {

OptionList& OptionList::add(const char* key, int64_t value, int64_t fallback) {
  if (value != fallback) options_.set(key, format("{}", value));
  return *this;
}
OptionList& OptionList::add(const char* key, double value, double fallback) {
  if (value != fallback) options_.set(key, shortest_text(value));
  return *this;
}
OptionList& OptionList::add(const char* key, bool value, bool fallback) {
  if (value != fallback) options_.set(key, value ? "true" : "false");
  return *this;
}
OptionList& OptionList::add(const char* key, const std::string& value,
                            const std::string& fallback) {
  if (value != fallback) options_.set(key, value);
  return *this;
}

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

// rope_parameters may be keyed by layer type.
const Json* pick_parameters(ConfigReader& config, const char* layer_type) {
  const Json* p = config.find("rope_parameters");
  if (p == nullptr) return nullptr;
  if (!p->is_object())
    config.fail(format("rope_parameters is {}, not an object", printable(p->dump())));
  const bool keyed = std::any_of(p->members().begin(), p->members().end(),
                                 [](const Json::Member& m) { return m.value.is_object(); });
  if (!keyed) return p;
  for (const Json::Member& m : p->members()) {
    if (!m.key.ends_with("_attention"))
      config.fail(format("rope_parameters holds both layer types and {}", printable(m.key)));
  }
  const char* key = layer_type != nullptr ? layer_type : "full_attention";
  const Json* own = p->find(key);
  if (own == nullptr || own->is_null()) config.fail(format("rope_parameters lacks {}", key));
  return own;
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

RopeSettings read_rope(ConfigReader& config, const RopeDefaults& defaults, const char* layer_type) {
  RopeSettings out;
  const double max_positions = static_cast<double>(
      config.integer("max_position_embeddings", defaults.max_positions, int64_t{1} << 40));
  out.theta = config.real("rope_theta", defaults.theta);
  out.partial = config.real("partial_rotary_factor", defaults.partial);
  const Json* scaling = config.find("rope_scaling");
  if (const Json* p = pick_parameters(config, layer_type)) {
    const RopeReader r(config, *p);
    out.theta = r.positive("rope_theta", out.theta);
    out.partial = r.positive("partial_rotary_factor", out.partial);
    scaling = p;
  } else if (scaling != nullptr) {
    out.theta = RopeReader(config, *scaling).positive("rope_theta", out.theta);
  }
  if (!(out.theta > 0)) config.fail(format("rope_theta is {}, not positive", out.theta));
  if (!(out.partial > 0 && out.partial <= 1))
    config.fail(format("partial_rotary_factor is {}, not in (0, 1]", out.partial));
  if (scaling != nullptr && max_positions > 0)
    out.scaling = rope_scaling_text(config, *scaling, max_positions, &out.mscale);
  return out;
}

LayerSpec gqa_layer(const GqaSettings& g, const ModelSettings& model) {
  OptionList o;
  o.add("heads", g.heads, model.heads);
  o.add("kv_heads", g.kv_heads, g.heads);
  o.add("head_dim", g.head_dim, model.head_dim);
  o.add("rope", g.rope.on, true);
  if (g.rope.on) {
    o.add("rope_theta", g.rope.theta, 10000.0);
    o.add("rotary", g.rope.partial, 1.0);
    o.add("interleaved", g.interleaved, false);
    o.add("rope_scaling", g.rope.scaling, "");
  }
  o.add("qk_norm", g.qk_norm, "none");
  o.add("one_plus", g.one_plus, false);
  o.add("window", g.window, 0);
  o.add("gate", g.gate, false);
  o.add("bias", g.bias, "none");
  o.add("sinks", g.sinks, false);
  o.add("scale", g.scale, 0.0);
  o.add("softcap", g.softcap, 0.0);
  o.add("chunk", g.chunk, 0);
  return o.layer("gqa");
}

void read_heads(ConfigReader& config, const HeadDefaults& defaults, FamilyModel& model,
                GqaSettings& gqa) {
  gqa.heads = config.integer("num_attention_heads", defaults.heads, 1 << 16);
  gqa.kv_heads = config.integer("num_key_value_heads",
                                defaults.kv_heads > 0 ? defaults.kv_heads : gqa.heads, 1 << 16);
  if (gqa.heads < 1 || gqa.kv_heads < 1 || gqa.heads % gqa.kv_heads != 0) {
    config.fail(format("num_attention_heads is {}, not a multiple of num_key_value_heads = {}",
                       gqa.heads, gqa.kv_heads));
  }
  const std::optional<int64_t> given = config.maybe_integer({"head_dim"}, 1 << 16);
  const int64_t fallback =
      defaults.head_dim > 0 ? defaults.head_dim : model.settings.width / gqa.heads;
  gqa.head_dim = given.value_or(fallback);
  if (gqa.head_dim < 1) config.fail(format("head_dim is {}", gqa.head_dim));
  if (!given && defaults.head_dim == 0 && model.settings.width % gqa.heads != 0) {
    config.fail(
        format("num_attention_heads = {} does not divide hidden_size = {}, and there is no "
               "head_dim",
               gqa.heads, model.settings.width));
  }
  model.settings.heads = gqa.heads;
  model.settings.head_dim = gqa.head_dim;
}

void read_model(ConfigReader& config, const ModelDefaults& d, FamilyModel& model) {
  ModelSettings& s = model.settings;
  s.width = config.integer("hidden_size", d.width, 1 << 20);
  s.vocab = config.integer("vocab_size", d.vocab);
  if (s.width < 1) config.fail("hidden_size is 0");
  if (s.vocab < 2) config.fail(format("vocab_size is {}; at least 2", s.vocab));
  s.norm_eps = config.real("rms_norm_eps", d.eps);
  if (!(s.norm_eps > 0)) config.fail(format("rms_norm_eps is {}, not positive", s.norm_eps));
  model.tie_given = config.has("tie_word_embeddings");
  s.tie_embeddings = config.boolean("tie_word_embeddings", d.tied);
  model.layers = config.integer("num_hidden_layers", d.layers, kMostLayers);
  if (model.layers < 1) config.fail("num_hidden_layers is 0");
  config.integer("max_position_embeddings", d.max_positions, int64_t{1} << 40);
}

LayerSpec swiglu_layer(int64_t ffn, const char* act, bool bias) {
  OptionList o;
  o.add("ffn", ffn, 0);
  o.add("act", std::string(act), "silu");
  o.add("bias", bias, false);
  return o.layer("swiglu");
}

std::vector<std::string> read_layer_types(ConfigReader& config, int64_t layers,
                                          std::initializer_list<const char*> known) {
  const std::vector<std::string> types = config.texts("layer_types");
  if (types.empty()) return types;
  if (std::ssize(types) != layers) {
    config.fail(
        format("layer_types has {} entries for num_hidden_layers = {}", types.size(), layers));
  }
  for (const std::string& t : types) {
    if (std::none_of(known.begin(), known.end(), [&](const char* k) { return t == k; }))
      config.fail(format("layer_types holds \"{}\", which is not known for {}", printable(t),
                         config.model_type()));
  }
  return types;
}

std::vector<int64_t> qwen_windows(ConfigReader& config, int64_t layers) {
  const bool use = config.boolean("use_sliding_window", false);
  const int64_t given = config.integer("sliding_window", 4096);
  const int64_t first = config.integer("max_window_layers", 28);
  const std::vector<std::string> types =
      read_layer_types(config, layers, {"full_attention", "sliding_attention"});
  std::vector<int64_t> out;
  for (int64_t i = 0; i < layers; ++i) {
    const bool sliding =
        types.empty() ? i >= first : types[static_cast<size_t>(i)] == "sliding_attention";
    out.push_back(use && sliding ? given : 0);
  }
  return out;
}

std::vector<TensorRow> base_table(const char* mixer_norm, const char* channel_norm) {
  return {{"embed_tokens.weight", "{P}embed_tokens.weight", copied(), ""},
          {"norm.weight", "{P}norm.weight", copied(), ""},
          {"lm_head.weight", "{H}lm_head.weight", copied(), ""},
          {"mixer.norm.weight", std::string(mixer_norm) + ".weight", copied(), ""},
          {"channel.norm.weight", std::string(channel_norm) + ".weight", copied(), ""}};
}

void append(std::vector<TensorRow>& table, std::vector<TensorRow> rows) {
  std::move(rows.begin(), rows.end(), std::back_inserter(table));
}

std::vector<TensorRow> gqa_rows() { return {{"mixer.gqa.*", "self_attn.*", copied(), ""}}; }
std::vector<TensorRow> swiglu_rows() { return {{"channel.swiglu.*", "mlp.*", copied(), ""}}; }

}  // namespace braid
