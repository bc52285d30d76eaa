#pragma once

#include "braid/ops/tape.h"

namespace braid {

// RMSNorm over the last dimension (arXiv 1910.07467): x rstd(x) * w, or * (1 + w) when one_plus
// (Gemma, Qwen3-Next). x [..., N] with contiguous inner dimensions, w [N].
Tensor rms_norm(const Context& ctx, const Tensor& x, Parameter& w, double eps,
                bool one_plus = false);

}  // namespace braid
