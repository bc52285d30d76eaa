#pragma once
// Step sizes of Mamba-2's and Mamba-3's heads.

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

}  // namespace braid
