#pragma once
// Elementwise ops with autograd. Operands have equal shapes; inputs may have strided rows
// (ops/rows.h), outputs are contiguous.

#include <vector>

#include "braid/kernels/simd/activation.h"
#include "braid/ops/tape.h"

namespace braid {

Tensor add(const Context& ctx, const Tensor& a, const Tensor& b);
Tensor mul(const Context& ctx, const Tensor& a, const Tensor& b);
Tensor scale(const Context& ctx, const Tensor& x, float by);  // x itself where `by` is 1
// x [T, N] by by [N]
Tensor scale_columns(const Context& ctx, const Tensor& x, const std::vector<float>& by);
// cap tanh(x / cap)
Tensor softcap(const Context& ctx, const Tensor& x, float cap);
Tensor sigmoid(const Context& ctx, const Tensor& x);
Tensor silu(const Context& ctx, const Tensor& x);
// act(x); any but kClamped
Tensor activate(const Context& ctx, const Tensor& x, Act act);
// act(gate) * up (arXiv 2002.05202)
Tensor gated(const Context& ctx, const Tensor& gate, const Tensor& up, const Activation& act = {});
// x * sigmoid(gate) (arXiv 2505.06708)
Tensor sigmoid_mul(const Context& ctx, const Tensor& x, const Tensor& gate);

}  // namespace braid
