#pragma once

#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

// y + by (.) x with one factor per head or per channel: the skip past a state space (D x), the mix
// of a token with the one before it (x + mu (prev - x)). y contiguous [T, H, P] or [T, C]; x of the
// same shape, its rows may be strided; by [H], [H * P] or [C].
Tensor add_scaled(const Context& ctx, const Tensor& y, const Tensor& x, Parameter& by);
// The same where y is given up and no other tensor holds its numbers: without a tape they make room
// for the sum.
Tensor add_scaled(const Context& ctx, Tensor&& y, const Tensor& x, Parameter& by);

// x (.) by, one factor per channel: x [T, C] contiguous, by [C].
Tensor scale_channels(const Context& ctx, const Tensor& x, Parameter& by);

}  // namespace braid
