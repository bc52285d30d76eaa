#include "braid/importers/gguf_tokenizer.h"

#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/text/tokenizer/byte_map.h"

namespace braid {
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
    const size_t i = static_cast<size_t>(b);
    if (v.tokens[i] != byte_characters()[i]) return false;
  }
  return true;
}

TokenizerExtras extras_in(const GgufFile& f) {
  TokenizerExtras out;
  if (auto text = f.string(kTemplateKey)) out.chat_templates.emplace_back("default", *text);
  if (const GgufValue* names = f.find(kTemplateNames)) {
    for (const std::string& name : names->as_strings()) {
      if (auto text = f.string(format("{}.{}", kTemplateKey, name)))
        out.chat_templates.emplace_back(name, *text);
    }
  }
  const std::string arch = f.string("general.architecture").value_or("");
  out.max_length = static_cast<int64_t>(
      std::min<uint64_t>(f.uint(arch + ".context_length").value_or(0), uint64_t{1} << 40));
  return out;
}

// The files of a whole tokenizer.json that the file carries; nullopt when it carries none.
std::optional<TokenizerFiles> whole_files(const GgufFile& f,
                                          const std::optional<GgufVocabulary>& v) {
  std::optional<std::string> whole = f.string(kTokenizerJson);
  if (!whole) return std::nullopt;
  return TokenizerFiles{std::move(*whole),
                        v ? tokenizer_config_of_gguf(*v, extras_in(f)) : std::string("{}\n")};
}

}  // namespace

std::shared_ptr<const Tokenizer> gguf_tokenizer(const GgufFile& f) {
  const std::optional<GgufVocabulary> v = vocabulary_in(f);
  try {
    if (const auto files = whole_files(f, v))
      return parse_tokenizer_json(files->tokenizer, files->config);
    return v ? tokenizer_from_gguf(*v) : nullptr;
  } catch (Error& e) {
    throw e.add_context(f.path());
  }
}

std::optional<TokenizerFiles> gguf_tokenizer_files(const GgufFile& f) {
  const std::optional<GgufVocabulary> v = vocabulary_in(f);
  try {
    if (auto files = whole_files(f, v)) return files;
    if (!v || is_bytes(*v)) return std::nullopt;
    return tokenizer_files_of_gguf(*v, extras_in(f));
  } catch (Error& e) {
    throw e.add_context(f.path());
  }
}

void write_tokenizer_files(const TokenizerFiles& files, const std::string& folder) {
  write_file(join_path(folder, "tokenizer.json"), files.tokenizer);
  write_file(join_path(folder, "tokenizer_config.json"), files.config);
}

}  // namespace braid
