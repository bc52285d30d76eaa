#pragma once
// Which comparison a folder holds: all that its results depend on.

#include <optional>
#include <string>
#include <vector>

#include "braid/base/json.h"
#include "braid/compare/compare.h"
#include "braid/train/data.h"

namespace braid {

Json comparison_identity(const CompareConfig& config, const TrainData& data);

// "stacks.B.width is 64 there and 96 here", one for each value that differs.
std::vector<std::string> differences(const Json& there, const Json& here);

// CompareConfig::command of the comparison that the folder holds; nullopt when it holds none.
std::optional<Json> comparison_command(const std::string& folder);

// Throws Error(kUsage) for a folder that holds files and no comparison.
void refuse_other_folder(const std::string& folder);
// Writes comparison.json into the folder, or throws Error(kUsage) where another one is there, with
// all that differs. More seeds than before are the same comparison, which grows.
void claim_folder(const CompareConfig& config, const TrainData& data);

}  // namespace braid
