#include "braid/stack/settings.h"

// Some of its assertions fail on bad texts, for which it then has a proper error.
#define TOML_ASSERT(expr) static_assert(true)
#define TOML_ENABLE_FORMATTERS 0
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/base/suggest.h"

namespace braid {
namespace {

constexpr size_t kMaxBytes = kMaxStackText + (1 << 16);
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxVocab = int64_t{1} << 31;
constexpr int64_t kMaxMeta = 1 << 16;

constexpr std::array<std::string_view, 19> kKeys = {"stack",
                                                    "width",
                                                    "heads",
                                                    "head_dim",
                                                    "vocab",
                                                    "tie_embeddings",
                                                    "norm",
                                                    "norm_placement",
                                                    "norm_eps",
                                                    "residual",
                                                    "embedding_scale",
                                                    "embedding_norm",
                                                    "positions",
                                                    "meta_tokens",
                                                    "logit_scale",
                                                    "logit_softcap",
                                                    "max_position_embeddings",
                                                    "init",
                                                    "seed"};

// Hugging Face's words, accepted as input.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kSynonyms = {{
    {"hidden_size", "width"},
    {"num_attention_heads", "heads"},
    {"vocab_size", "vocab"},
    {"tie_word_embeddings", "tie_embeddings"},
    {"rms_norm_eps", "norm_eps"},
    {"layer_norm_eps", "norm_eps"},
    {"layer_norm_epsilon", "norm_eps"},
}};

// toml++ 3.3 runs into undefined behaviour on some letters (U+00A1 .. U+0499) outside of texts and
// comments. No setting needs more than ASCII, so it never sees any: a character becomes one "?",
// which no value accepts either.
std::string ascii_only(std::string_view text) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.substr(0, 3) == kByteOrderMark) text.remove_prefix(3);
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      out += c;
    } else if (byte >= 0xC0) {
      out += '?';
    }
  }
  return out;
}

// One file while it is read: finds a setting under its own name or its synonym and checks the type.
class Reader {
 public:
  Reader(const toml::table& table, std::string_view source) : source_(source) {
    for (auto&& [key, node] : table) add(key.str(), node);
  }

  void whole(std::string_view key, int64_t low, int64_t high, int64_t& value) const {
    const Entry* entry = find(key);
    if (entry == nullptr) return;
    const auto number = entry->node->value_exact<int64_t>();
    if (!number) wrong_type(*entry, "a whole number");
    if (*number < low || *number > high) {
      fail(*entry, format("{} = {} is not in {} .. {}", entry->key, *number, low, high));
    }
    value = *number;
  }

  void fraction(std::string_view key, double& value) const {
    const Entry* entry = find(key);
    if (entry == nullptr) return;
    if (!entry->node->is_number()) wrong_type(*entry, "a number");
    const double number = *entry->node->value<double>();
    if (!(number > 0 && number < 1)) {
      fail(*entry, format("{} = {} is not between 0 and 1", entry->key, shortest_text(number)));
    }
    value = number;
  }

  // A finite number above 0, or 0 where `zero` is allowed.
  void size(std::string_view key, bool zero, double& value) const {
    const Entry* entry = find(key);
    if (entry == nullptr) return;
    if (!entry->node->is_number()) wrong_type(*entry, "a number");
    const double number = *entry->node->value<double>();
    if (!std::isfinite(number) || number < 0 || (number == 0 && !zero)) {
      fail(*entry, format("{} = {} is not {}", entry->key, shortest_text(number),
                          zero ? "0 or above" : "above 0"));
    }
    value = number;
  }

  void flag(std::string_view key, bool& value) const {
    const Entry* entry = find(key);
    if (entry == nullptr) return;
    const auto set = entry->node->value_exact<bool>();
    if (!set) wrong_type(*entry, "true or false");
    value = *set;
  }

  // `use` reads the text; what it throws gets the place in front.
  template <typename Use>
  void text(std::string_view key, Use use) const {
    const Entry* entry = find(key);
    if (entry == nullptr) return;
    const auto string = entry->node->value_exact<std::string_view>();
    if (!string) wrong_type(*entry, "a text in quotes");
    try {
      use(*string);
    } catch (Error& e) {
      throw e.add_context(place(*entry));
    }
  }

 private:
  struct Entry {
    std::string key;  // as written
    const toml::node* node;
  };

  void add(std::string_view key, const toml::node& node) {
    std::string_view name = key;
    for (const auto& [synonym, own] : kSynonyms) {
      if (key == synonym) name = own;
    }
    const Entry entry{std::string(key), &node};
    if (std::find(kKeys.begin(), kKeys.end(), name) == kKeys.end()) {
      fail(entry, format("unknown key '{}'{}", printable(key), near(key)));
    }
    const auto [at, is_new] = entries_.emplace(name, entry);
    if (!is_new) {
      fail(entry, format("{} and {} set the same; keep one", at->second.key, key));
    }
  }

  static std::string near(std::string_view key) {
    std::vector<std::string_view> names(kKeys.begin(), kKeys.end());
    for (const auto& [synonym, own] : kSynonyms) names.push_back(synonym);
    if (!nearest_name(key, names).empty()) return suggestion(key, names);
    return suggestion(key, kKeys);
  }

  const Entry* find(std::string_view key) const {
    const auto at = entries_.find(key);
    return at == entries_.end() ? nullptr : &at->second;
  }

  std::string place(const Entry& entry) const {
    return format("{}:{}", source_, static_cast<int64_t>(entry.node->source().begin.line));
  }

  [[noreturn]] void fail(const Entry& entry, const std::string& message) const {
    throw Error(ErrorKind::kUsage, format("{}: {}", place(entry), message));
  }

  [[noreturn]] void wrong_type(const Entry& entry, std::string_view wanted) const {
    std::string found;
    switch (entry.node->type()) {
      case toml::node_type::string:
        found = format("the text \"{}\"", printable(*entry.node->value<std::string_view>()));
        break;
      case toml::node_type::integer:
        found = format("{}", *entry.node->value<int64_t>());
        break;
      case toml::node_type::floating_point:
        found = shortest_text(*entry.node->value<double>());
        break;
      case toml::node_type::boolean:
        found = *entry.node->value<bool>() ? "true" : "false";
        break;
      case toml::node_type::table:
        found = "a table";
        break;
      case toml::node_type::array:
        found = "an array";
        break;
      default:
        found = "a date or time";
    }
    fail(entry, format("{} must be {}, not {}", entry.key, wanted, found));
  }

  std::string_view source_;
  std::map<std::string_view, Entry> entries_;
};

std::string quoted(std::string_view text) { return format("\"{}\"", text); }

struct NormalInit {
  double std = 0.02;
  void visit(OptionVisitor& v) { v.field("std", std, 0.02); }
};

struct SmallInit {
  void visit(OptionVisitor&) {}
};

struct FanInInit {
  double embed = 0.02;
  void visit(OptionVisitor& v) { v.field("embed", embed, 0.02); }
};

void check_std(std::string_view what, double value) {
  if (value > 0) return;
  throw Error(ErrorKind::kUsage, format("init {} = {}; above 0", what, shortest_text(value)));
}

// Flags and importers set these without the checks of the file.
void check_scales(const ModelSettings& s) {
  const auto fail = [](const std::string& message) { throw Error(ErrorKind::kUsage, message); };
  const auto above = [](double v) { return std::isfinite(v) && v > 0; };
  if (!above(s.embedding_scale)) {
    fail(format("embedding_scale {}; above 0", shortest_text(s.embedding_scale)));
  }
  if (!above(s.logit_scale)) fail(format("logit_scale {}; above 0", shortest_text(s.logit_scale)));
  if (s.logit_softcap != 0 && !above(s.logit_softcap)) {
    fail(format("logit_softcap {}; above 0, or 0 for none", shortest_text(s.logit_softcap)));
  }
  if (s.positions < 0) fail(format("positions {}; 0 (none) or more", s.positions));
  if (s.meta_tokens > 0 && s.positions > 0)
    fail("meta_tokens and learned positions do not go together");
  if (s.meta_tokens < 0 || s.meta_tokens > kMaxMeta)
    fail(format("meta_tokens {}; 0 (none) to {}", s.meta_tokens, kMaxMeta));
  if (s.positions > 0 && s.max_position_embeddings > s.positions) {
    fail(format("max_position_embeddings {} is more than the {} learned positions",
                s.max_position_embeddings, s.positions));
  }
}

int64_t default_head_dim(int64_t width) {
  for (const int64_t size : {64, 32, 16}) {
    if (width % size == 0) return size;
  }
  throw Error(
      ErrorKind::kUsage,
      format("width {} is not a multiple of 16, so heads have no default size; set heads or "
             "head_dim, or a width of {}",
             width, (width / 16 + 1) * 16));
}

}  // namespace

const char* norm_name(NormKind kind) {
  switch (kind) {
    case NormKind::kRms:
      return "rms_norm";
    case NormKind::kRms1p:
      return "rms_norm_1p";
    case NormKind::kLayer:
      return "layer_norm";
  }
  return "";
}

NormKind norm_kind(std::string_view name) {
  for (const NormKind kind : {NormKind::kRms, NormKind::kRms1p, NormKind::kLayer}) {
    if (name == norm_name(kind)) return kind;
  }
  throw Error(ErrorKind::kUsage,
              format("norm = \"{}\" is none of \"rms_norm\", \"rms_norm_1p\", \"layer_norm\"",
                     printable(name)));
}

const char* placement_name(NormPlacement placement) {
  switch (placement) {
    case NormPlacement::kPre:
      return "pre";
    case NormPlacement::kPost:
      return "post";
    case NormPlacement::kSandwich:
      return "sandwich";
  }
  return "";
}

NormPlacement norm_placement(std::string_view name) {
  for (const NormPlacement placement :
       {NormPlacement::kPre, NormPlacement::kPost, NormPlacement::kSandwich}) {
    if (name == placement_name(placement)) return placement;
  }
  throw Error(ErrorKind::kUsage,
              format("norm_placement = \"{}\" is none of \"pre\", \"post\", \"sandwich\"",
                     printable(name)));
}

LayerSpec parse_named(std::string_view text, std::string_view key) {
  try {
    StackSpec spec = parse_stack(text);
    const StackItem& item = spec.items[0];
    if (spec.items.size() == 1 && item.count == 1 && item.layers.size() == 1) {
      return item.layers[0];
    }
  } catch (Error& e) {
    throw e.add_context(std::string(key));
  }
  throw Error(ErrorKind::kUsage,
              format("{} = \"{}\" is not one NAME or NAME{{key=value}}", key, printable(text)));
}

std::string print_named(const LayerSpec& named) {
  return print_stack({{StackItem{1, false, {named}, {}}}});
}

ModelSettings parse_settings(std::string_view text, std::string_view source) {
  if (text.size() > kMaxBytes) {
    throw Error(ErrorKind::kBadInput,
                format("{}: {} bytes, the limit is {}", source, text.size(), kMaxBytes));
  }
  toml::table table;
  try {
    table = toml::parse(ascii_only(text));
  } catch (const toml::parse_error& e) {
    const toml::source_position at = e.source().begin;
    throw Error(ErrorKind::kBadInput,
                format("{}:{}:{}: not TOML: {}", source, static_cast<int64_t>(at.line),
                       static_cast<int64_t>(at.column), printable(e.description(), 200)));
  }
  const Reader reader(table, source);
  ModelSettings out;
  reader.text("stack", [&](std::string_view v) { out.stack = parse_stack(v, known_layers()); });
  reader.whole("width", 1, kMaxWidth, out.width);
  reader.whole("heads", 1, kMaxWidth, out.heads);
  reader.whole("head_dim", 1, kMaxWidth, out.head_dim);
  reader.whole("vocab", 2, kMaxVocab, out.vocab);
  reader.flag("tie_embeddings", out.tie_embeddings);
  reader.text("norm", [&](std::string_view v) { out.norm = norm_kind(v); });
  reader.text("norm_placement",
              [&](std::string_view v) { out.norm_placement = norm_placement(v); });
  reader.fraction("norm_eps", out.norm_eps);
  reader.text("residual", [&](std::string_view v) { out.residual = parse_named(v, "residual"); });
  reader.size("embedding_scale", false, out.embedding_scale);
  reader.flag("embedding_norm", out.embedding_norm);
  reader.whole("positions", 0, kMaxVocab, out.positions);
  reader.whole("meta_tokens", 0, kMaxMeta, out.meta_tokens);
  reader.size("logit_scale", false, out.logit_scale);
  reader.size("logit_softcap", true, out.logit_softcap);
  reader.whole("max_position_embeddings", 0, INT64_MAX, out.max_position_embeddings);
  reader.text("init", [&](std::string_view v) { out.init = parse_named(v, "init"); });
  int64_t seed = 0;
  reader.whole("seed", 0, INT64_MAX, seed);
  out.seed = static_cast<uint64_t>(seed);
  return out;
}

std::string print_settings(const ModelSettings& settings) {
  std::string out;
  const auto line = [&](std::string_view key, const std::string& value) {
    out += format("{} = {}\n", key, value);
  };
  if (!settings.stack.items.empty()) line("stack", quoted(print_stack(settings.stack)));
  if (settings.width > 0) line("width", std::to_string(settings.width));
  if (settings.heads > 0) line("heads", std::to_string(settings.heads));
  if (settings.head_dim > 0) line("head_dim", std::to_string(settings.head_dim));
  line("vocab", std::to_string(settings.vocab));
  line("tie_embeddings", settings.tie_embeddings ? "true" : "false");
  line("norm", quoted(norm_name(settings.norm)));
  if (settings.norm_placement != NormPlacement::kPre) {
    line("norm_placement", quoted(placement_name(settings.norm_placement)));
  }
  line("norm_eps", shortest_text(settings.norm_eps));
  line("residual", quoted(print_named(settings.residual)));
  if (settings.embedding_scale != 1) {
    line("embedding_scale", shortest_text(settings.embedding_scale));
  }
  if (settings.embedding_norm) line("embedding_norm", "true");
  if (settings.positions > 0) line("positions", std::to_string(settings.positions));
  if (settings.meta_tokens > 0) line("meta_tokens", std::to_string(settings.meta_tokens));
  if (settings.logit_scale != 1) line("logit_scale", shortest_text(settings.logit_scale));
  if (settings.logit_softcap != 0) line("logit_softcap", shortest_text(settings.logit_softcap));
  if (settings.max_position_embeddings > 0) {
    line("max_position_embeddings", std::to_string(settings.max_position_embeddings));
  }
  line("init", quoted(print_named(settings.init)));
  line("seed", std::to_string(settings.seed));
  return out;
}

ModelSettings resolved(ModelSettings s) {
  const auto fail = [](const std::string& message) { throw Error(ErrorKind::kUsage, message); };
  if (s.stack.items.empty()) fail("stack is not set; for example 4 x (kda, swiglu)");
  if (s.width <= 0) fail("width is not set; for example width = 192");
  if (s.head_dim == 0 && s.heads > 0) {
    if (s.width % s.heads != 0) {
      fail(
          format("{} heads do not divide width {}; change one, or set head_dim", s.heads, s.width));
    }
    s.head_dim = s.width / s.heads;
  }
  if (s.head_dim == 0) s.head_dim = default_head_dim(s.width);
  if (s.heads == 0) {
    if (s.width % s.head_dim != 0) {
      fail(format("head_dim {} does not divide width {}; change one, or set heads", s.head_dim,
                  s.width));
    }
    s.heads = s.width / s.head_dim;
  }
  check_scales(s);
  if (s.vocab < 2) fail(format("vocab {}; at least 2", s.vocab));
  init_std(s, 1);
  return s;
}

InitStd init_std(const ModelSettings& settings, int64_t sublayers) {
  const LayerSpec& init = settings.init;
  const double width = static_cast<double>(settings.width);
  const double depth = static_cast<double>(sublayers);
  const std::string label = "init " + init.name;
  if (init.name == "normal") {
    const auto config = read_options<NormalInit>(label, init.options);
    check_std("std", config.std);
    return {config.std, config.std / std::sqrt(depth), config.std};
  }
  if (init.name == "small") {
    read_options<SmallInit>(label, init.options);
    const double small = std::sqrt(0.4 / width);
    return {small, 4 / (depth * std::sqrt(width)), small};
  }
  if (init.name == "fan_in") {
    const auto config = read_options<FanInInit>(label, init.options);
    check_std("embed", config.embed);
    return {1 / std::sqrt(width), 1 / std::sqrt(width * depth), config.embed};
  }
  constexpr std::array<std::string_view, 3> names = {"normal", "small", "fan_in"};
  throw Error(ErrorKind::kUsage,
              format("unknown init '{}'{}", init.name, suggestion(init.name, names)));
}

}  // namespace braid
