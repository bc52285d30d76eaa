#pragma once
// Gates of the linear mixers (specs/linear-recurrences.md section 7): log-decays g <= 0 and write
// strengths beta. Inputs are [T, n] or [T, H, n], contiguous after the first dimension; outputs
// have the same shape, contiguous.

#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

// g = -exp(A_log[h]) softplus(a + dt_bias)                          lower_bound = 0
// g = lower_bound sigmoid(exp(A_log[h]) (a + dt_bias))              lower_bound < 0   (KDA's
// bounded gate) Per row `a` has A_log.count() heads of one (GDN) or several (KDA) channels; dt_bias
// has one value per channel of all heads, head-major. A_log and dt_bias may have any shape of that
// many elements.
Tensor decay_gate(const Context& ctx, const Tensor& a, Parameter& a_log, Parameter& dt_bias,
                  double lower_bound = 0);
// Returns da; adds to a_log.grad and dt_bias.grad.
Tensor decay_gate_backward(const Context& ctx, const Tensor& a, Parameter& a_log,
                           Parameter& dt_bias, double lower_bound, const Tensor& dg);

// g = scale log(sigmoid(x + bias)), bias [n] per channel or null: GLA's gate, scale 1/16
// (2312.06635).
Tensor log_sigmoid_gate(const Context& ctx, const Tensor& x, Parameter* bias,
                        double scale = 1.0 / 16);
Tensor log_sigmoid_gate_backward(const Context& ctx, const Tensor& x, Parameter* bias, double scale,
                                 const Tensor& dg);

// beta = scale sigmoid(x); scale 2 allows negative eigenvalues (2411.12537).
Tensor beta_gate(const Context& ctx, const Tensor& x, double scale = 1);
Tensor beta_gate_backward(const Context& ctx, const Tensor& beta, double scale, const Tensor& dy);

}  // namespace braid
