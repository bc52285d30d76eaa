#pragma once

#include "braid/kernels/head_norm/head_norm.h"
#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

// y = x (mean x^2 + eps)^-1/2 weight act(z) over the last dimension: the output norm of linear
// mixers, norm before gate, one weight [V] for all heads. act is silu (GDN, GLA, RetNet) or sigmoid
// (KDA, GDN-2, Comba). x, z [T, H, V], channels contiguous, rows and heads may be strided; y [T, H,
// V] contiguous.
Tensor gated_norm(const Context& ctx, const Tensor& x, const Tensor& z, Parameter& weight,
                  double eps, GateAct act);

struct GatedNormGrads {
  Tensor dx;
  Tensor dz;
};
// Adds to weight.grad.
GatedNormGrads gated_norm_backward(const Context& ctx, const Tensor& x, const Tensor& z,
                                   Parameter& weight, double eps, GateAct act, const Tensor& dy);

}  // namespace braid
