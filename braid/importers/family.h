#pragma once
// A family of published models: config.json -> settings, and where each parameter stands in the
// checkpoint. families/<name>.cpp and one line in families/list.inc.

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/json.h"
#include "braid/importers/config_reader.h"
#include "braid/importers/tensor_table.h"
#include "braid/stack/settings.h"

namespace braid {

// Another way that checkpoints of a family spell all their tensors.
struct TensorSpelling {
  std::vector<TensorRow> table;
  std::string layers_name;
  std::string prefix;
  std::vector<std::string> skipped;
};

// What a config.json describes.
struct FamilyModel {
  ModelSettings settings;
  std::vector<TensorRow> table;
  int64_t layers = 0;                // the family's
  int64_t slots = 2;                 // sub-layers of a layer: mixer and channel, or one of either
  bool tie_given = true;             // false: tied when the checkpoint has no head
  bool spare_layers = false;         // layers from `layers` on are multi-token prediction, not used
  std::vector<std::string> skipped;  // patterns of other tensors that play no part ('*', '#')
  std::string layers_name = "layers.";
  std::string prefix = "model.";  // of tensors, when there is no checkpoint to look at
  // Instead of table, layers_name, prefix and skipped where the checkpoint has its embedding.
  std::vector<TensorSpelling> spellings;
  std::vector<std::string> notes;  // what the reader of `plan` should know
};

struct Family {
  const char* name;
  std::vector<const char*> model_types;
  // The model of a config; throws Error(kBadInput).
  FamilyModel (*read)(ConfigReader& config);
};

std::span<const Family> families();
// Throws Error(kBadInput) naming the type and the families there are.
const Family& family_of(const ConfigReader& config);
const Family* find_family(std::string_view name);

// Reads a whole config: find the family, read, refuse what was not understood.
struct ReadConfig {
  const Family* family = nullptr;
  FamilyModel model;
  int64_t fp8_block = 128;
};
ReadConfig read_config(const Json& config, const std::string& source);

}  // namespace braid
