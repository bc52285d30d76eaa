#pragma once

#include "braid/ops/tape.h"

namespace braid {

// The log-decay -exp(w) of RWKV-6, held above -1e4 (where the decay is 0 whatever w is). w [T, C],
// contiguous.
Tensor log_decay(const Context& ctx, const Tensor& w);

}  // namespace braid
