#pragma once

#include "braid/kernels/attention/tiles.h"

namespace braid {

// Whether 16 bits of queries, keys, values and probabilities do: where rounded weights made them
// and BRAID_ATTENTION is not f32.
bool attention_rounds(const AttentionConfig& config);

}  // namespace braid
