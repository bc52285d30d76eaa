#pragma once
// Folders in Hugging Face's layout, written from a folder or from a model.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "braid/base/json.h"
#include "braid/importers/load.h"

namespace braid {

struct HfExported {
  uint64_t bytes = 0;
  std::vector<std::string> files;
  std::vector<std::string> notes;
};

// Every tensor of the folder as it is stored, whether the model uses it or not, sharded anew;
// config.json and all text files beside it are copied. The folder is read strictly first.
HfExported copy_hf_folder(const std::string& from, const std::string& to, uint64_t shard_bytes,
                          const ByteProgress& progress = {});

// A model in the tensors of its family. dtype("name") is "F32", "BF16" or "F16".
struct HfExport {
  const Model* model = nullptr;
  const TensorMap* map = nullptr;
  Json config;  // config.json, with what `dtype` says
  std::function<std::string(const std::string&)> dtype;
  std::string texts_from;  // folder of tokenizer files and the like; "" = none
  std::optional<TokenizerFiles> tokenizer = {};  // of a model that has no such folder
  Json generation = Json::object();              // its generation_config.json, where it says any
  ByteProgress progress = {};                    // while weights are written
};
HfExported export_hf(const HfExport& what, const std::string& to, uint64_t shard_bytes);

// Tokenizer, generation and template files, where `from` has them.
void copy_text_files(const std::string& from, const std::string& to);

// The tensors that `family` keeps this model in, under its first prefix.
TensorMap export_map(const FamilyModel& model, const ParameterSet& parameters);

// A config.json that the family of `name` ("" = the nearest one) reads back as exactly this model.
// Throws Error(kUsage) naming the layer or the setting that has no home.
struct HfHome {
  Json config;
  const Family* family = nullptr;
};
HfHome find_home(const ModelSettings& settings, const std::string& name);

// Norms written as 1 + w where the family wants them so; the model computes the same up to the
// rounding of w - 1. Does nothing to other models.
ModelSettings with_one_plus(const ModelSettings& settings);
void norms_to_one_plus(const Context& ctx, ParameterSet& parameters);

}  // namespace braid
