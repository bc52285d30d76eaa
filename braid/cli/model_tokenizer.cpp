#include "braid/cli/model_tokenizer.h"

#include <algorithm>

#include "braid/base/file.h"
#include "braid/importers/generation_config.h"
#include "braid/importers/gguf_generation.h"
#include "braid/importers/gguf_load.h"
#include "braid/importers/gguf_tokenizer.h"
#include "braid/importers/load.h"
#include "braid/importers/model_path.h"
#include "braid/train/checkpoint.h"

namespace braid {
namespace {

constexpr const char* kGeneration = "generation_config.json";

// config.json and GGUF metadata may say how texts end; neither stands beside a run's weights.
void keep_generation_defaults(const GenerationDefaults& defaults, NamedTexts& texts) {
  const bool there = std::any_of(texts.begin(), texts.end(),
                                 [](const NamedText& t) { return t.name == kGeneration; });
  const Json config = generation_config_of(defaults);
  if (!there && config.size() > 0) texts.push_back({kGeneration, config.dump_pretty()});
}

}  // namespace

DataTokenizer tokenizer_of_model(const std::string& model) {
  require_model(model);
  DataTokenizer out;
  if (is_gguf_file(model)) {
    const GgufFile file = GgufFile::open(model);
    if (auto files = gguf_tokenizer_files(file)) out = data_tokenizer(std::move(*files), model);
    keep_generation_defaults(gguf_generation_defaults(file), out.beside);
    return out;
  }
  const std::string folder = is_hf_folder(model) ? model : checkpoint_folder(model);
  if (path_exists(join_path(folder, "tokenizer.json"))) {
    out = load_data_tokenizer(folder);
  } else {
    out.beside = read_texts_of_bytes(folder);
  }
  keep_generation_defaults(read_generation_defaults(folder), out.beside);
  return out;
}

}  // namespace braid
