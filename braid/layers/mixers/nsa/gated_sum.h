#pragma once

#include <array>

#include "braid/ops/tape.h"

namespace braid {

// o_b [T, H, d] contiguous, gates [T, 3 H] as logits, branch by branch (rows may be strided) -> the
// sum of sigmoid(gate) o_b [T, H, d]. Recorded on the tape.
Tensor gated_sum(const Context& ctx, const std::array<Tensor, 3>& o, const Tensor& gates);

}  // namespace braid
