#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/text/tokenizer/tokenizer.h"

namespace braid {
namespace {

[[noreturn]] void not_yet(const char* what) {
  throw Error(ErrorKind::kBadInput, std::string(what) + " cannot be read yet");
}

}  // namespace

std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& folder) {
  for (const char* name : {"tokenizer.json", "tiktoken.model"}) {
    if (path_exists(join_path(folder, name))) not_yet(name);
  }
  return nullptr;
}

std::shared_ptr<const Tokenizer> parse_tokenizer_json(std::string_view, std::string_view) {
  not_yet("tokenizer.json");
}

std::shared_ptr<const Tokenizer> tokenizer_from_gguf(const GgufVocabulary&) {
  not_yet("a GGUF vocabulary");
}

}  // namespace braid
