#pragma once
// Llama 3's position scaling as the divisors of its frequencies, which is how GGUF files keep it.

#include <span>
#include <vector>

#include "braid/importers/gguf_model.h"

namespace braid {

// One divisor for every pair of channels: 1 for short waves, the factor for long ones, between them
// a blend of the two frequencies.
std::vector<double> llama3_divisors(const GgufModel& model);

// The way back: scaling, factor, low, high and, where model.original_context is 0, that context.
// Divisors tell the two limits only in turns of the context, so the usual limits 1 and 4 are tried
// first. False, with the model as it was, where no such rule gives these divisors.
bool find_llama3(std::span<const float> divisors, GgufModel& model);

}  // namespace braid
