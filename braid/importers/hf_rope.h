#pragma once
// How config.json says what a layer's rope_scaling says.

#include "braid/base/json.h"
#include "braid/importers/hf_shown.h"

namespace braid {

// rope_scaling of a gqa or mla layer, with mla's factor of scores; nothing where positions are not
// scaled. Throws Error(kUsage) for what rope_scaling cannot say.
void put_rope_scaling(const ShownModel& m, const ShownLayer& layer, Json& c);

}  // namespace braid
