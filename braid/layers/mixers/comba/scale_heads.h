#pragma once

#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

// y = f(s_h) x for every head h, f the identity or sigmoid: Comba's inner decay and output
// correction. x [T, H, K], contiguous; s [H].
Tensor scale_heads(const Context& ctx, const Tensor& x, Parameter& s, bool sigmoid);

// Returns dx; adds to s.grad.
Tensor scale_heads_backward(const Context& ctx, const Tensor& x, Parameter& s, bool sigmoid,
                            const Tensor& dy);

}  // namespace braid
