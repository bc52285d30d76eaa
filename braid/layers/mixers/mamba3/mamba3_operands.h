#pragma once
// What Mamba-3 (arXiv 2603.15569) makes of its projections before and after the unified recurrence.
// The trapezoidal rule writes a token's key twice, once with its own step and once with the next
// one's: the recurrence takes the sum at once, and the part that lies ahead is taken off the
// output.

#include <span>

#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

// dt = softplus(raw + dt_bias), adt = dt A with A = -f(raw_a) held at or below -floor. f(x) = 1 + x
// for x >= 0 and 1 / (1 - x) below, or softplus. raw, raw_a [T, H], rows may be strided.
struct Mamba3Steps {
  Tensor dt, adt;  // [T, H]
};
Mamba3Steps mamba3_steps(const Context& ctx, const Tensor& raw, const Tensor& raw_a,
                         Parameter& dt_bias, bool softplus, double floor);

struct Mamba3Inputs {
  Tensor c, b;    // [T, G, N], contiguous
  Tensor dt;      // [T, H]
  Tensor trap;    // [T, H], before the sigmoid; rows may be strided
  Tensor angles;  // [T, S] for all heads or [T, H, S], before tanh; rows may be strided
};

struct Mamba3Operands {
  Tensor q, k;            // [T, H, N]: biased, turned by the angles of all tokens so far
  Tensor write;           // [T, H]: lambda_t dt_t + (1 - lambda_(t+1)) dt_(t+1), the write gate
  Tensor ahead;           // [T, H]: its second term, 0 at the end of a sequence
  Tensor enter;           // [sequences, H]: (1 - lambda) dt of every sequence's first token
  Tensor cosines, sines;  // [T, H, S]: of the angles, for the way back
};

// angles0: one [H * S] per sequence, the angles before its first token, moved on in place to those
// after its last; empty = zeros and nothing kept.
Mamba3Operands mamba3_operands_forward(const Context& ctx, const Mamba3Inputs& in,
                                       const Parameter& q_bias, const Parameter& k_bias,
                                       std::span<const int64_t> seq_starts,
                                       std::span<double* const> angles0);

struct Mamba3Grads {
  Tensor c, b, dt, trap, angles;
  Tensor angles0;  // [sequences, H, S]
};

// d: gradients of the operands, contiguous; `enter` may be undefined. kept: what forward returned.
// Adds to the biases' gradients.
Mamba3Grads mamba3_operands_backward(const Context& ctx, const Mamba3Inputs& in, Parameter& q_bias,
                                     Parameter& k_bias, std::span<const int64_t> seq_starts,
                                     const Mamba3Operands& kept, const Mamba3Operands& d);

// The same on the tape, for sequences that start fresh; `angles0` as above when nothing is
// recorded.
Mamba3Operands mamba3_operands(const Context& ctx, const Mamba3Inputs& in, Parameter& q_bias,
                               Parameter& k_bias, std::span<const int64_t> seq_starts,
                               std::span<double* const> angles0 = {});

// y = o + (D - ahead (q . k)) v per head: o, v [T, H, P], v's rows may be strided.
Tensor mamba3_output(const Context& ctx, const Tensor& o, const Mamba3Operands& operands,
                     const Tensor& v, Parameter& skip);

}  // namespace braid
