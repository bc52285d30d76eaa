#include "braid/text/tokenizer/model_texts.h"

#include "braid/base/file.h"

namespace braid {
namespace {

constexpr const char* kNames[] = {"generation_config.json",
                                  "chat_template.jinja",
                                  "chat_template.json",  // from here on they bring a vocabulary
                                  "tokenizer.json",
                                  "tokenizer_config.json",
                                  "tiktoken.model",
                                  "special_tokens_map.json",
                                  "added_tokens.json",
                                  "vocab.json",
                                  "merges.txt",
                                  "tokenizer.model",
                                  "preprocessor_config.json"};
constexpr size_t kOfBytes = 3;
constexpr size_t kMostBytes = size_t{1} << 30;

NamedTexts read_texts(const std::string& folder, std::span<const char* const> names) {
  NamedTexts texts;
  for (const char* name : names) {
    const std::string path = join_path(folder, name);
    if (path_exists(path)) texts.push_back({name, read_file(path, kMostBytes)});
  }
  return texts;
}

}  // namespace

std::span<const char* const> model_text_names() { return kNames; }

NamedTexts read_model_texts(const std::string& folder) { return read_texts(folder, kNames); }

NamedTexts read_texts_of_bytes(const std::string& folder) {
  return read_texts(folder, std::span(kNames).first<kOfBytes>());
}

}  // namespace braid
