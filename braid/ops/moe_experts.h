#pragma once
// The experts of a mixture: feed-forward layers, each applied to the rows routed to it.

#include "braid/kernels/simd/activation.h"
#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

struct ExpertWeights {
  Parameter* gate_up;                 // [E, 2F, D], the first F rows of an expert its gate;
                                      // ungated [E, F, D]
  Parameter* down;                    // [E, D, F]
  Parameter* gate_up_bias = nullptr;  // [E, 2F], ungated [E, F]
  Parameter* down_bias = nullptr;     // [E, D]
  Activation act = {};
  bool gated = true;
};

// y [T, D], y_t = sum_j weights[t, j] E_{experts[t, j]}(x_t) with E_e(x) = down_e (act(gate_e x) *
// (up_e x)), or down_e act(up_e x) where ungated, biases where there are some. x [T, D], rows may
// be strided; experts i32 [T, k]; weights [T, k]. Rows are sorted by expert and every expert
// multiplies its own rows only; nothing of size [T, E, .] exists. Each token adds up its k experts
// in the order of `experts`.
Tensor moe_experts(const Context& ctx, const Tensor& x, const ExpertWeights& w,
                   const Tensor& experts, const Tensor& weights);

// y [T, D] = sigmoid(gate_t) x_t: the shared expert's gate. x [T, D] contiguous, gate [T, 1].
Tensor gate_rows(const Context& ctx, const Tensor& x, const Tensor& gate);

}  // namespace braid
