#pragma once

#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

// y [T, n] = x [T, n] + bias [n]; rows of x may be strided.
Tensor add_bias(const Context& ctx, const Tensor& x, Parameter& bias);

// The same where there is a bias; x itself where `bias` is null.
Tensor biased(const Context& ctx, const Tensor& x, Parameter* bias);

// Adds to bias.grad; the gradient of x is dy itself.
void add_bias_backward(const Context& ctx, Parameter& bias, const Tensor& dy);

}  // namespace braid
