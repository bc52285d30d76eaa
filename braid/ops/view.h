#pragma once
// Recorded views: same memory, gradients routed back.

#include <vector>

#include "braid/ops/tape.h"

namespace braid {

// x with its last dimensions regrouped. The first dimension may be strided, and then must stay as
// it is.
Tensor reshape(const Context& ctx, const Tensor& x, Shape shape);

// x [..., n0 + n1 + ...] cut along its last dimension into [..., n0], [..., n1], ... (strided
// views).
std::vector<Tensor> split_columns(const Context& ctx, const Tensor& x,
                                  std::initializer_list<int64_t> widths);

}  // namespace braid
