#pragma once

#include <string>

#include "braid/formats/safetensors.h"
#include "braid/ops/parameter.h"

namespace braid {

// Every parameter under its own name, buffers included.
void add_weights(SafetensorsWriter& out, const ParameterSet& parameters);

// Fills all parameters from the file. Strict (DESIGN section 5.6): throws Error(kBadInput) listing
// the tensors that are missing, left over or of another shape, and changes nothing then.
void load_weights(const Context& ctx, const SafetensorsFile& file, ParameterSet& parameters);

}  // namespace braid
