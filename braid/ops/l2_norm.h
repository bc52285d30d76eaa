#pragma once

#include "braid/ops/tape.h"

namespace braid {

// y = x (sum x^2 + eps)^-1/2 over the last dimension (eps inside the root, sum not mean): queries
// and keys of the delta-rule mixers. x [T, H, K], channels contiguous, rows and heads may be
// strided; y [T, H, K] contiguous.
Tensor l2_norm(const Context& ctx, const Tensor& x, double eps = 1e-6);

Tensor l2_norm_backward(const Context& ctx, const Tensor& x, double eps, const Tensor& dy);

}  // namespace braid
