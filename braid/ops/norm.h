#pragma once

#include "braid/ops/tape.h"

namespace braid {

// RMSNorm over the last dimension (arXiv 1910.07467): x rstd(x) * w, or * (1 + w) when one_plus
// (Gemma, Qwen3-Next). x [T, ..., N] with contiguous inner dimensions; w [N], or gains of their own
// for all vectors of a row (norms over groups of channels: x [T, G, N], w [G * N]).
Tensor rms_norm(const Context& ctx, const Tensor& x, Parameter& w, double eps,
                bool one_plus = false);
// The same without gains.
Tensor rms_norm(const Context& ctx, const Tensor& x, double eps);

}  // namespace braid
