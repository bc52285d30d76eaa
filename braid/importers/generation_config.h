#pragma once

#include <string>

#include "braid/importers/load.h"

namespace braid {

// generation_config.json of a folder, and what config.json says of the end where that is silent.
// Throws Error(kBadInput) for values of another kind.
GenerationDefaults read_generation_defaults(const std::string& folder);

}  // namespace braid
