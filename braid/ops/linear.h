#pragma once

#include <span>
#include <vector>

#include "braid/ops/tape.h"

namespace braid {

// y [T, out] = x [T, in] w^T, w stored [out, in] (a torch Linear without bias). x may have strided
// rows.
Tensor linear(const Context& ctx, const Tensor& x, Parameter& w);

// The same x through several weights [out_i, in]: one output [T, out_i] each. Equal to so many
// calls of linear, except that their gradients of x are summed inside the products instead of in
// passes of their own.
std::vector<Tensor> linear_many(const Context& ctx, const Tensor& x,
                                std::span<Parameter* const> weights);

// Gradients of linear: returns dx [T, in] (undefined unless `want_dx`), adds dw into w.grad when
// that is allocated.
Tensor linear_backward(const Context& ctx, const Tensor& x, Parameter& w, const Tensor& dy,
                       bool want_dx);

}  // namespace braid
