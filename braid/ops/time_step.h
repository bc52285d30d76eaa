#pragma once
// Step sizes of Mamba-2's and Mamba-3's heads, and the input's own way past their recurrence.

#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

// dt = clamp(softplus(raw + dt_bias), low, high) and the log-decay g = -exp(A_log) dt (arXiv
// 2405.21060). raw [T, H], rows may be strided; A_log, dt_bias [H]; dt, g [T, H]. The clamp passes
// gradients inside its limits only.
struct TimeSteps {
  Tensor dt, g;
};
TimeSteps time_steps(const Context& ctx, const Tensor& raw, Parameter& a_log, Parameter& dt_bias,
                     double low, double high);

// y + D x per head or per channel: y [T, H, P] contiguous, x [T, H, P] with strided rows, D [H] or
// [H * P].
Tensor add_skip(const Context& ctx, const Tensor& y, const Tensor& x, Parameter& skip);

}  // namespace braid
