// tokenizer.json and its companions as GGUF keys.

#include "braid/importers/gguf_tokenizer.h"

#include <algorithm>
#include <map>
#include <optional>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/byte_map.h"
#include "braid/text/tokenizer/gguf_vocabulary.h"
#include "braid/text/tokenizer/known_regexes.h"
#include "braid/text/tokenizer/tokenizer_config.h"

namespace braid {
namespace {

constexpr size_t kMostBytes = size_t{200} << 20;
std::string read_text(const std::string& folder, const char* name) {
  const std::string path = join_path(folder, name);
  return path_exists(path) ? read_file(path, kMostBytes) : std::string();
}

Json parse(const std::string& text, const std::string& where) {
  try {
    return Json::parse(text, {.bytes = kMostBytes, .depth = 128});
  } catch (Error& e) {
    throw e.add_context(where);
  }
}

const Json* member(const Json* object, const char* key) {
  if (object == nullptr || !object->is_object()) return nullptr;
  const Json* v = object->find(key);
  return v == nullptr || v->is_null() ? nullptr : v;
}

bool truth_of(const Json* v, bool fallback) {
  return v != nullptr && v->kind() == Json::Kind::kBool ? v->as_bool() : fallback;
}

std::string text_of(const Json* v) { return v != nullptr && v->is_string() ? v->as_string() : ""; }

void put(GgufWriter& w, GgufVocabulary v) {
  w.set("tokenizer.ggml.model", GgufValue::string(v.model));
  if (!v.pre.empty()) w.set("tokenizer.ggml.pre", GgufValue::string(v.pre));
  w.set("tokenizer.ggml.tokens", GgufValue::strings(std::move(v.tokens)));
  w.set("tokenizer.ggml.token_type", GgufValue::i32s(v.types));
  if (v.model == "gpt2")
    w.set("tokenizer.ggml.merges", GgufValue::strings(std::move(v.merges)));
  else
    w.set("tokenizer.ggml.scores", GgufValue::f32s(v.scores));
}

// Adds the regexes a pre-tokenizer cuts by, in order; false for a part that is no such cut.
bool collect_cuts(const Json* p, std::vector<std::string>& cuts) {
  const std::string type = text_of(member(p, "type"));
  if (type == "Split") {
    const std::string behavior = text_of(member(p, "behavior"));
    // Keeping the matches and dropping what is between them is the same where a regex takes all.
    const bool kept = behavior == "Removed" && truth_of(member(p, "invert"), false);
    cuts.push_back(text_of(member(member(p, "pattern"), "Regex")));
    return behavior == "Isolated" || kept;
  }
  if (type == "ByteLevel") {
    if (truth_of(member(p, "use_regex"), true)) cuts.emplace_back(kGpt2Regex);
    return true;
  }
  if (type == "Digits" && truth_of(member(p, "individual_digits"), false)) {
    cuts.emplace_back(kDigitRegex);
    return true;
  }
  const Json* parts = member(p, "pretokenizers");
  if (type != "Sequence" || parts == nullptr) return false;
  return std::all_of(parts->elements().begin(), parts->elements().end(),
                     [&](const Json& part) { return collect_cuts(&part, cuts); });
}

// llama.cpp's name for a pre-tokenizer that cuts as it does; "" when there is none.
std::string name_of_cuts(const Json* p, const Json* model) {
  std::vector<std::string> cuts;
  if (!collect_cuts(p, cuts)) return "";
  return std::string(gguf_cuts_name(cuts, truth_of(member(model, "ignore_merges"), false)));
}

bool byte_level(const Json* p) {
  if (text_of(member(p, "type")) == "ByteLevel") return true;
  const Json* parts = member(p, "pretokenizers");
  return parts != nullptr && std::any_of(parts->elements().begin(), parts->elements().end(),
                                         [](const Json& part) { return byte_level(&part); });
}

// "left right", of a string or of a pair. GGUF parts them by the space, so they can hold none.
std::string merge_text(const Json& merge, size_t i, const std::string& where) {
  std::string text;
  if (merge.is_string()) {
    text = merge.as_string();
  } else if (merge.is_array() && merge.size() == 2 && merge.elements()[0].is_string() &&
             merge.elements()[1].is_string()) {
    text = merge.elements()[0].as_string() + " " + merge.elements()[1].as_string();
  }
  const size_t space = text.find(' ');
  if (space == 0 || space >= text.size() - 1 || text.find(' ', space + 1) != text.npos) {
    throw Error(ErrorKind::kBadInput, format("{}: merge {} is {}, not two tokens without spaces",
                                             where, i, printable(merge.dump(), 100)));
  }
  return text;
}

bool is_byte_token(const std::string& t) {
  return t.size() == 6 && t.starts_with("<0x") && t[5] == '>';
}

// Tokens and their types by id; rows that nothing names are filled up.
void add_tokens(const Json& tree, const std::string& where, GgufVocabulary& v) {
  const Json& model = tree.at("model");
  const auto set = [&](const std::string& token, int64_t id, int32_t kind) {
    if (id < 0 || id >= std::ssize(v.tokens))
      throw Error(ErrorKind::kBadInput,
                  format("{}: token \"{}\" has id {}, but the model has {} rows", where, token, id,
                         v.tokens.size()));
    v.tokens[static_cast<size_t>(id)] = token;
    v.types[static_cast<size_t>(id)] = kind;
  };
  const std::string unknown = text_of(member(&model, "unk_token"));
  for (const auto& [token, id] : model.at("vocab").members()) {
    const bool byte = v.model == "llama" && is_byte_token(token);
    set(token, id.as_int(), byte ? kByte : token == unknown ? kUnknown : kNormal);
  }
  if (const Json* added = member(&tree, "added_tokens")) {
    for (const Json& t : added->elements()) {
      const bool control = truth_of(member(&t, "special"), false);
      const std::string content = t.at("content").as_string();
      // A string that the vocabulary has under another id counts with that one.
      const Json* known = model.at("vocab").find(content);
      set(content, (known != nullptr ? *known : t.at("id")).as_int(),
          content == unknown ? kUnknown
          : control          ? kControl
                             : kUser);
    }
  }
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (v.types[i] == kUnused) v.tokens[i] = format("[PAD{}]", i);
  }
}

// Merges as they stand, and as scores: an earlier merge has the higher one, what no merge makes the
// lowest.
void add_merges(const Json& model, const std::string& where, GgufVocabulary& v) {
  std::map<std::string, size_t> rank;
  for (const Json& merge : model.at("merges").elements()) {
    v.merges.push_back(merge_text(merge, v.merges.size(), where));
    std::string joined = v.merges.back();
    joined.erase(joined.find(' '), 1);
    rank.emplace(std::move(joined), rank.size());  // of several ways to make it the first
  }
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const auto found = rank.find(v.tokens[i]);
    const size_t at = found != rank.end() ? found->second : rank.size();
    v.scores[i] = -static_cast<float>(at + 1);
  }
}

GgufVocabulary vocabulary_of(const Json& tree, const GgufModel& m, const std::string& where,
                             std::vector<std::string>& notes) {
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorKind::kBadInput, where + ": " + what);
  };
  const Json* model = member(&tree, "model");
  const std::string type = text_of(member(model, "type"));
  if (type != "BPE" || member(model, "vocab") == nullptr || member(model, "merges") == nullptr)
    fail(format("a tokenizer of type \"{}\" has no GGUF form here, only BPE", type));
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (const std::string own = text_of(member(model, key)); !own.empty())
      fail(format("a BPE with {} \"{}\" has no GGUF form", key, printable(own)));
  }
  GgufVocabulary v;
  const Json* pre = member(&tree, "pre_tokenizer");
  v.model = byte_level(pre) ? "gpt2" : "llama";
  v.tokens.resize(static_cast<size_t>(m.vocab));
  v.types.assign(static_cast<size_t>(m.vocab), kUnused);
  v.scores.assign(static_cast<size_t>(m.vocab), 0);
  add_tokens(tree, where, v);
  add_merges(*model, where, v);
  if (v.model == "llama") return v;
  v.pre = name_of_cuts(pre, model);
  if (v.pre.empty()) {
    v.pre = "default";
    notes.push_back(
        "tokenizer: no name in GGUF for how it cuts text, written as \"default\"; other "
        "programs will split text in other places");
  }
  return v;
}

// A token named in tokenizer_config.json: a string, or {"content": ..}; "" when there is none.
std::string named_token(const Json& config, const char* key) {
  const Json* v = member(&config, key);
  if (v != nullptr && v->is_object()) v = member(v, "content");
  return text_of(v);
}

std::optional<NamedToken> named_of(const std::string& token,
                                   const std::vector<std::string>& tokens) {
  const auto found = std::find(tokens.begin(), tokens.end(), token);
  if (token.empty() || found == tokens.end()) return std::nullopt;
  return NamedToken{token, static_cast<int32_t>(found - tokens.begin())};
}

void put_named(GgufWriter& w, const Json& config, const char* key, const char* gguf,
               const std::vector<std::string>& tokens) {
  if (const auto named = named_of(named_token(config, key), tokens))
    w.set(gguf, GgufValue::u32(static_cast<uint32_t>(named->id)));
}

// Whether a text is put between a start token or before an end token: said outright, or by the
// post-processor.
bool adds(const Json& tree, const Json& config, const char* flag, const std::string& token,
          bool first) {
  if (const Json* said = member(&config, flag)) return truth_of(said, false);
  if (class_follows_flags(config)) return first && !token.empty();  // their default
  if (token.empty()) return false;
  const auto has = [&](const Json* p, auto& self) -> bool {
    const Json* parts = member(p, "processors");
    if (parts != nullptr) {
      return std::any_of(parts->elements().begin(), parts->elements().end(),
                         [&](const Json& part) { return self(&part, self); });
    }
    const Json* single = member(p, "single");
    if (single == nullptr || !single->is_array() || single->size() == 0) return false;
    const Json& end = first ? single->elements().front() : single->elements().back();
    return text_of(member(member(&end, "SpecialToken"), "id")) == token;
  };
  return has(member(&tree, "post_processor"), has);
}

// tokenizer.json with what its class puts around a text as its own post_processor, since the name
// of the class is not kept.
std::string with_template(Json tree, const std::optional<NamedToken>& bos,
                          const std::optional<NamedToken>& eos) {
  tree.set("post_processor", around_text(bos, eos));
  return tree.dump() + "\n";
}

// The one called "default" under the key that all readers know, others under their names.
void put_templates(GgufWriter& w, const std::string& folder, const Json& config) {
  const std::string file = read_text(folder, "chat_template.jinja");
  const Json* t = member(&config, "chat_template");
  std::vector<std::string> names;
  const auto put = [&](const std::string& name, const std::string& text) {
    if (text.empty()) return;
    if (name == "default") {
      w.set(kTemplateKey, GgufValue::string(text));
      return;
    }
    names.push_back(name);
    w.set(format("{}.{}", kTemplateKey, name), GgufValue::string(text));
  };
  put("default", file.empty() ? text_of(t) : file);
  if (t != nullptr && t->is_array()) {
    for (const Json& named : t->elements()) {
      const std::string name = text_of(member(&named, "name"));
      if (name != "default" || file.empty()) put(name, text_of(member(&named, "template")));
    }
  }
  if (!names.empty()) w.set(kTemplateNames, GgufValue::strings(std::move(names)));
}

// Whether a "▁" is put in front of a text: by Llama 2's normalizer or by a Metaspace.
bool space_prefix(const Json& tree) {
  const auto prepends = [](const Json* part, auto& self) -> bool {
    const std::string type = text_of(member(part, "type"));
    if (type == "Prepend") return true;
    if (type == "Metaspace")
      return truth_of(member(part, "add_prefix_space"), true) &&
             text_of(member(part, "prepend_scheme")) != "never";
    for (const char* list : {"normalizers", "pretokenizers"}) {
      const Json* parts = member(part, list);
      if (parts == nullptr || !parts->is_array()) continue;
      for (const Json& p : parts->elements())
        if (self(&p, self)) return true;
    }
    return false;
  };
  return prepends(member(&tree, "normalizer"), prepends) ||
         prepends(member(&tree, "pre_tokenizer"), prepends);
}

// Without a tokenizer.json: bytes, where the model has as many rows.
void put_no_file(GgufWriter& w, const GgufModel& m, std::vector<std::string>& notes) {
  if (m.vocab != 256) {
    notes.push_back("tokenizer: there is no tokenizer.json; the file carries none");
    w.set("tokenizer.ggml.model", GgufValue::string("no_vocab"));
    w.set(m.arch + ".vocab_size", GgufValue::u32(static_cast<uint32_t>(m.vocab)));
    return;
  }
  GgufVocabulary v;
  v.model = "gpt2";
  v.pre = "default";
  v.types.assign(256, kNormal);
  for (int b = 0; b < 256; ++b) v.tokens.push_back(byte_characters()[static_cast<size_t>(b)]);
  put(w, std::move(v));
  w.set("tokenizer.ggml.add_bos_token", GgufValue::boolean(false));
}

}  // namespace

void put_tokenizer(GgufWriter& w, const std::string& folder, const GgufModel& m,
                   std::vector<std::string>& notes) {
  const std::string text = folder.empty() ? "" : read_text(folder, "tokenizer.json");
  if (text.empty()) return put_no_file(w, m, notes);
  const std::string where = join_path(folder, "tokenizer.json");
  const Json tree = parse(text, where);
  const std::string config_text = read_text(folder, "tokenizer_config.json");
  const Json config = config_text.empty()
                          ? Json::object()
                          : parse(config_text, join_path(folder, "tokenizer_config.json"));
  GgufVocabulary v = vocabulary_of(tree, m, where, notes);
  const std::vector<std::string> tokens = v.tokens;
  const bool spaces = v.model == "llama";
  put(w, std::move(v));
  put_named(w, config, "bos_token", "tokenizer.ggml.bos_token_id", tokens);
  put_named(w, config, "eos_token", "tokenizer.ggml.eos_token_id", tokens);
  put_named(w, config, "unk_token", "tokenizer.ggml.unknown_token_id", tokens);
  put_named(w, config, "pad_token", "tokenizer.ggml.padding_token_id", tokens);
  const std::string bos = named_token(config, "bos_token"), eos = named_token(config, "eos_token");
  const bool adds_bos = adds(tree, config, "add_bos_token", bos, true);
  const bool adds_eos = adds(tree, config, "add_eos_token", eos, false);
  w.set("tokenizer.ggml.add_bos_token", GgufValue::boolean(adds_bos));
  if (adds_eos) w.set("tokenizer.ggml.add_eos_token", GgufValue::boolean(true));
  if (spaces) w.set("tokenizer.ggml.add_space_prefix", GgufValue::boolean(space_prefix(tree)));
  put_templates(w, folder, config);
  // The keys above leave out what GGUF has no word for: normalizers, tokens that take white space,
  // merges of "llama". Its standard has this key for all of it.
  w.set(kTokenizerJson,
        GgufValue::string(class_follows_flags(config)
                              ? with_template(tree, named_of(adds_bos ? bos : "", tokens),
                                              named_of(adds_eos ? eos : "", tokens))
                              : text));
}

}  // namespace braid
