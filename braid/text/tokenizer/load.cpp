#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/text/tokenizer/tiktoken.h"
#include "braid/text/tokenizer/tokenizer.h"

namespace braid {

std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& folder) {
  const auto exists = [&](const char* name) { return path_exists(join_path(folder, name)); };
  const bool json = exists("tokenizer.json");
  if (!json && !exists("tiktoken.model")) return nullptr;
  constexpr size_t kMostBytes = size_t{1} << 30;
  const std::string config_path = join_path(folder, "tokenizer_config.json");
  const std::string config =
      path_exists(config_path) ? read_file(config_path, kMostBytes) : std::string();
  const std::string path = join_path(folder, json ? "tokenizer.json" : "tiktoken.model");
  const std::string text = read_file(path, kMostBytes);
  try {
    return json ? parse_tokenizer_json(text, config) : parse_tiktoken(text, config);
  } catch (Error& e) {
    throw e.add_context(path);
  }
}

}  // namespace braid
