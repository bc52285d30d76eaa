#include "braid/importers/gguf_tokenizer.h"

#include <algorithm>
#include <map>
#include <optional>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/known_regexes.h"

namespace braid {
namespace {

constexpr size_t kMostBytes = size_t{200} << 20;
constexpr int32_t kNormal = 1, kUnknown = 2, kControl = 3, kUser = 4, kUnused = 5, kByte = 6;

// How llama.cpp cuts text, by name: one regex after another.
struct NamedCuts {
  std::vector<std::string_view> regexes;
  const char* name;
};

const std::vector<NamedCuts>& named_cuts() {
  static const std::vector<NamedCuts> table = {
      {{kGpt2Regex}, "gpt-2"},
      {{kLlama3Regex}, "llama-bpe"},
      {{kQwen2Regex}, "qwen2"},
      {{kQwen35Regex}, "qwen35"},
      {{kO200kRegex}, "gpt-4o"},
      {{kTekkenRegex}, "tekken"},
      {{kKimiRegex}, "kimi-k2"},
      {{kDigitRegex, kGpt2Regex}, "smollm"},
      {{kDigits3Regex, kEastAsianRegex, kDeepseek3Regex}, "deepseek-v3"},
      // The ranges of kEastAsianRegex as DeepSeek's own file spells them.
      {{kDigits3Regex, "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", kDeepseek3Regex},
       "deepseek-v3"},
  };
  return table;
}

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

std::string text_of(const Json* v) { return v != nullptr && v->is_string() ? v->as_string() : ""; }

std::string utf8(uint32_t c) {
  if (c < 0x80) return std::string(1, static_cast<char>(c));
  return {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 63))};
}

// GPT-2's character for a byte: itself where it prints, else from U+0100 on, in order.
std::string byte_character(int byte) {
  const auto prints = [](int b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
  };
  if (prints(byte)) return utf8(static_cast<uint32_t>(byte));
  uint32_t next = 0x100;
  for (int b = 0; b < byte; ++b) next += prints(b) ? 0 : 1;
  return utf8(next);
}

struct Vocabulary {
  std::string model, pre;
  std::vector<std::string> tokens, merges;
  std::vector<int32_t> types;
  std::vector<float> scores;
};

void put(GgufWriter& w, Vocabulary v) {
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
    const Json* invert = member(p, "invert");
    // Keeping the matches and dropping what is between them is the same where a regex takes all.
    const bool kept = behavior == "Removed" && invert != nullptr && invert->as_bool();
    cuts.push_back(text_of(member(member(p, "pattern"), "Regex")));
    return behavior == "Isolated" || kept;
  }
  if (type == "ByteLevel") {
    const Json* own = member(p, "use_regex");
    if (own == nullptr || own->as_bool()) cuts.push_back(std::string(kGpt2Regex));
    return true;
  }
  const Json* parts = member(p, "pretokenizers");
  if (type != "Sequence" || parts == nullptr) return false;
  return std::all_of(parts->elements().begin(), parts->elements().end(),
                     [&](const Json& part) { return collect_cuts(&part, cuts); });
}

// llama.cpp's name for a pre-tokenizer that cuts as it does; "" when there is none.
std::string name_of_cuts(const Json* p) {
  std::vector<std::string> cuts;
  if (!collect_cuts(p, cuts)) return "";
  for (const NamedCuts& n : named_cuts()) {
    if (std::equal(cuts.begin(), cuts.end(), n.regexes.begin(), n.regexes.end())) return n.name;
  }
  return "";
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

Vocabulary vocabulary_of(const Json& tree, const GgufModel& m, const std::string& where,
                         std::vector<std::string>& notes) {
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorKind::kBadInput, where + ": " + what);
  };
  const Json* model = member(&tree, "model");
  const std::string type = text_of(member(model, "type"));
  if (type != "BPE" || member(model, "vocab") == nullptr || member(model, "merges") == nullptr)
    fail(format("a tokenizer of type \"{}\" has no GGUF form here, only BPE", type));
  Vocabulary v;
  const Json* pre = member(&tree, "pre_tokenizer");
  v.model = byte_level(pre) ? "gpt2" : "llama";
  v.tokens.resize(static_cast<size_t>(m.vocab));
  v.types.assign(static_cast<size_t>(m.vocab), kUnused);
  v.scores.assign(static_cast<size_t>(m.vocab), 0);
  const auto set = [&](const std::string& token, int64_t id, int32_t kind) {
    if (id < 0 || id >= m.vocab)
      fail(format("token \"{}\" has id {}, but the model has {} rows", token, id, m.vocab));
    v.tokens[static_cast<size_t>(id)] = token;
    v.types[static_cast<size_t>(id)] = kind;
  };
  const std::string unknown = text_of(member(model, "unk_token"));
  for (const auto& [token, id] : model->at("vocab").members()) {
    const bool byte = v.model == "llama" && is_byte_token(token);
    set(token, id.as_int(), byte ? kByte : token == unknown ? kUnknown : kNormal);
  }
  if (const Json* added = member(&tree, "added_tokens")) {
    for (const Json& t : added->elements()) {
      const Json* special = member(&t, "special");
      const bool control = special != nullptr && special->as_bool();
      const std::string content = t.at("content").as_string();
      // A string that the vocabulary has under another id counts with that one.
      const Json* known = model->at("vocab").find(content);
      set(content, (known != nullptr ? *known : t.at("id")).as_int(),
          content == unknown ? kUnknown
          : control          ? kControl
                             : kUser);
    }
  }
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (v.types[i] == kUnused) v.tokens[i] = format("[PAD{}]", i);
  }
  std::map<std::string, size_t> rank;
  for (const Json& merge : model->at("merges").elements()) {
    v.merges.push_back(merge_text(merge, v.merges.size(), where));
    std::string joined = v.merges.back();
    joined.erase(joined.find(' '), 1);
    rank.emplace(std::move(joined), rank.size());  // of several ways to make it the first
  }
  if (v.model == "llama") {
    // Merges by score: an earlier merge has the higher one, what no merge makes the lowest.
    for (size_t i = 0; i < v.tokens.size(); ++i) {
      const auto found = rank.find(v.tokens[i]);
      const size_t at = found != rank.end() ? found->second : rank.size();
      v.scores[i] = -static_cast<float>(at + 1);
    }
    return v;
  }
  v.pre = name_of_cuts(pre);
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

void put_named(GgufWriter& w, const Json& config, const char* key, const char* gguf,
               const std::vector<std::string>& tokens) {
  const std::string token = named_token(config, key);
  if (token.empty()) return;
  const auto found = std::find(tokens.begin(), tokens.end(), token);
  if (found == tokens.end()) return;
  w.set(gguf, GgufValue::u32(static_cast<uint32_t>(found - tokens.begin())));
}

// Whether a text is put between a start token or before an end token: said outright, or by the
// post-processor.
bool adds(const Json& tree, const Json& config, const char* flag, const std::string& token,
          bool first) {
  const Json* said = member(&config, flag);
  if (said != nullptr) return said->as_bool();
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

void put_template(GgufWriter& w, const std::string& folder, const Json& config) {
  std::string text = read_text(folder, "chat_template.jinja");
  const Json* t = member(&config, "chat_template");
  if (text.empty() && t != nullptr && t->is_string()) text = t->as_string();
  if (text.empty() && t != nullptr && t->is_array()) {
    for (const Json& named : t->elements()) {
      if (text_of(member(&named, "name")) == "default") text = text_of(member(&named, "template"));
    }
  }
  if (!text.empty()) w.set("tokenizer.chat_template", GgufValue::string(text));
}

}  // namespace

void put_tokenizer(GgufWriter& w, const std::string& folder, const GgufModel& m,
                   std::vector<std::string>& notes) {
  const std::string text = folder.empty() ? "" : read_text(folder, "tokenizer.json");
  if (text.empty()) {
    if (m.vocab != 256) {
      notes.push_back("tokenizer: there is no tokenizer.json; the file carries none");
      w.set("tokenizer.ggml.model", GgufValue::string("no_vocab"));
      w.set(m.arch + ".vocab_size", GgufValue::u32(static_cast<uint32_t>(m.vocab)));
      return;
    }
    Vocabulary v{"gpt2", "default", {}, {}, std::vector<int32_t>(256, kNormal), {}};
    for (int b = 0; b < 256; ++b) v.tokens.push_back(byte_character(b));
    put(w, std::move(v));
    w.set("tokenizer.ggml.add_bos_token", GgufValue::boolean(false));
    return;
  }
  const std::string where = join_path(folder, "tokenizer.json");
  const Json tree = parse(text, where);
  const std::string config_text = read_text(folder, "tokenizer_config.json");
  const Json config = config_text.empty()
                          ? Json::object()
                          : parse(config_text, join_path(folder, "tokenizer_config.json"));
  Vocabulary v = vocabulary_of(tree, m, where, notes);
  const std::vector<std::string> tokens = v.tokens;
  const bool spaces = v.model == "llama";
  put(w, std::move(v));
  put_named(w, config, "bos_token", "tokenizer.ggml.bos_token_id", tokens);
  put_named(w, config, "eos_token", "tokenizer.ggml.eos_token_id", tokens);
  put_named(w, config, "unk_token", "tokenizer.ggml.unknown_token_id", tokens);
  put_named(w, config, "pad_token", "tokenizer.ggml.padding_token_id", tokens);
  const std::string bos = named_token(config, "bos_token"), eos = named_token(config, "eos_token");
  w.set("tokenizer.ggml.add_bos_token",
        GgufValue::boolean(adds(tree, config, "add_bos_token", bos, true)));
  if (adds(tree, config, "add_eos_token", eos, false))
    w.set("tokenizer.ggml.add_eos_token", GgufValue::boolean(true));
  if (spaces) {
    // Gemma's normalizer only replaces blanks; Llama 2's also puts one in front.
    const bool prefix = text.find("\"Prepend\"") != std::string::npos;
    w.set("tokenizer.ggml.add_space_prefix", GgufValue::boolean(prefix));
  }
  put_template(w, folder, config);
}

namespace {

// nullopt when the file carries none.
std::optional<GgufVocabulary> vocabulary_in(const GgufFile& f) {
  GgufVocabulary v;
  v.model = f.string("tokenizer.ggml.model").value_or("");
  const GgufValue* tokens = f.find("tokenizer.ggml.tokens");
  if (v.model.empty() || v.model == "no_vocab" || tokens == nullptr) return std::nullopt;
  const auto array = [&](const char* key, auto&& use) {
    const GgufValue* a = f.find(key);
    if (a == nullptr) return;
    try {
      for (size_t i = 0; i < a->size(); ++i) use(*a, i);
    } catch (Error& e) {
      throw e.add_context(format("{}: key \"{}\"", f.path(), key));
    }
  };
  v.pre = f.string("tokenizer.ggml.pre").value_or("");
  array("tokenizer.ggml.tokens",
        [&](const GgufValue& a, size_t i) { v.tokens.push_back(a.as_strings()[i]); });
  array("tokenizer.ggml.merges",
        [&](const GgufValue& a, size_t i) { v.merges.push_back(a.as_strings()[i]); });
  array("tokenizer.ggml.scores", [&](const GgufValue& a, size_t i) {
    v.scores.push_back(static_cast<float>(a.real_at(i)));
  });
  array("tokenizer.ggml.token_type", [&](const GgufValue& a, size_t i) {
    v.types.push_back(static_cast<int32_t>(a.int_at(i)));
  });
  const auto id = [&](const char* key) -> std::optional<int32_t> {
    const std::optional<uint64_t> n = f.uint(key);
    if (!n || *n >= v.tokens.size()) return std::nullopt;
    return static_cast<int32_t>(*n);
  };
  v.bos = id("tokenizer.ggml.bos_token_id");
  v.eos = id("tokenizer.ggml.eos_token_id");
  v.unk = id("tokenizer.ggml.unknown_token_id");
  v.pad = id("tokenizer.ggml.padding_token_id");
  v.add_bos = f.boolean("tokenizer.ggml.add_bos_token");
  v.add_eos = f.boolean("tokenizer.ggml.add_eos_token");
  v.add_space_prefix = f.boolean("tokenizer.ggml.add_space_prefix");
  return v;
}

// The bytes themselves, in order: what a model of 256 rows has without any tokenizer.json.
bool is_bytes(const GgufVocabulary& v) {
  if (v.model != "gpt2" || v.tokens.size() != 256 || !v.merges.empty()) return false;
  for (int b = 0; b < 256; ++b) {
    if (v.tokens[static_cast<size_t>(b)] != byte_character(b)) return false;
  }
  return true;
}

}  // namespace

std::shared_ptr<const Tokenizer> gguf_tokenizer(const GgufFile& f) {
  if (const auto whole = f.string("tokenizer.huggingface.json"))
    return parse_tokenizer_json(*whole);
  const std::optional<GgufVocabulary> v = vocabulary_in(f);
  if (!v) return nullptr;
  try {
    return tokenizer_from_gguf(*v);
  } catch (Error& e) {
    throw e.add_context(f.path());
  }
}

std::optional<TokenizerFiles> gguf_tokenizer_files(const GgufFile& f) {
  const std::optional<GgufVocabulary> v = vocabulary_in(f);
  const std::optional<std::string> whole = f.string("tokenizer.huggingface.json");
  if ((!v && !whole) || (v && is_bytes(*v))) return std::nullopt;
  const std::string chat = f.string("tokenizer.chat_template").value_or("");
  try {
    TokenizerFiles files = v ? tokenizer_files_of_gguf(*v, chat) : TokenizerFiles{"", "{}\n"};
    if (whole) files.tokenizer = *whole;
    return files;
  } catch (Error& e) {
    throw e.add_context(f.path());
  }
}

void write_tokenizer_files(const TokenizerFiles& files, const std::string& folder) {
  write_file(join_path(folder, "tokenizer.json"), files.tokenizer);
  write_file(join_path(folder, "tokenizer_config.json"), files.config);
}

}  // namespace braid
