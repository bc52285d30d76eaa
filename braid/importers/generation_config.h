#pragma once

#include <string>

#include "braid/base/json.h"
#include "braid/importers/load.h"

namespace braid {

// generation_config.json of a folder, and what config.json says of the end where that is silent.
// Throws Error(kBadInput) for values of another kind.
GenerationDefaults read_generation_defaults(const std::string& folder);
// The same as a generation_config.json; an empty object when there is nothing to say.
Json generation_config_of(const GenerationDefaults& defaults);
// bos_token_id, eos_token_id (a list where there are several) and pad_token_id.
void put_token_ids(const GenerationDefaults& defaults, Json& config);

}  // namespace braid
