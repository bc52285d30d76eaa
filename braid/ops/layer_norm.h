#pragma once

#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

// LayerNorm over the last dimension (arXiv 1607.06450): (x - mean) rstd w + b. x [T, N], rows may
// be strided; w, b [N]. Definition: norm_ref.h. Or a group norm: x [T, G, N] with w, b [G * N].
Tensor layer_norm(const Context& ctx, const Tensor& x, Parameter& w, Parameter& b, double eps);

}  // namespace braid
