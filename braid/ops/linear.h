#pragma once

#include "braid/ops/tape.h"

namespace braid {

// y [T, out] = x [T, in] w^T, w stored [out, in] (a torch Linear without bias). x may have strided
// rows.
Tensor linear(const Context& ctx, const Tensor& x, Parameter& w);

// Its gradients: returns dx [T, in] (undefined unless `want_dx`), adds dw into w.grad when that is
// allocated.
Tensor linear_backward(const Context& ctx, const Tensor& x, Parameter& w, const Tensor& dy,
                       bool want_dx);

}  // namespace braid
