#pragma once
// Mamba's selective scan (arXiv 2312.00752; also Falcon-Mamba, Jamba, Hymba, SambaY) over a ragged
// batch. Equations: kernels/scan/selective_scan.h.

#include <span>

#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

struct SelectiveScanInputs {
  Tensor x;    // [T, D] after the convolution
  Tensor raw;  // [T, D] step sizes before dt_bias and softplus
  Tensor b;    // [T, N]
  Tensor c;    // [T, N]
};

struct SelectiveScanParams {
  Parameter* a_log;    // [D, N]: A = -exp(A_log)
  Parameter* skip;     // D, [D]
  Parameter* dt_bias;  // [D]
};

// -> y [T, D], D x included, before any gate. Rows of the inputs may be strided. Sequence s owns
// tokens [seq_starts[s], seq_starts[s + 1]). states: one [N, D] block per sequence, initial state
// in, final state out; empty = every sequence starts from zero and nothing is kept. Recorded on
// ctx.tape; gradients do not flow through `states`. Throws Error(kUsage) for N above 256.
Tensor selective_scan(const Context& ctx, const SelectiveScanInputs& in,
                      const SelectiveScanParams& params, std::span<const int64_t> seq_starts,
                      std::span<float* const> states = {});

// The same without the tape; kept (may be null) is what the backward pass needs.
Tensor selective_scan_forward(const Context& ctx, const SelectiveScanInputs& in,
                              const SelectiveScanParams& params,
                              std::span<const int64_t> seq_starts, std::span<float* const> states,
                              Tensor* kept);

struct SelectiveScanGrads {
  Tensor x, raw, b, c;
  Tensor initial_states;  // [sequences, N, D]
};

// Adds to the gradients of the parameters. d_final_states [sequences, N, D] or undefined for zero.
SelectiveScanGrads selective_scan_backward(const Context& ctx, const SelectiveScanInputs& in,
                                           const SelectiveScanParams& params,
                                           std::span<const int64_t> seq_starts, const Tensor& kept,
                                           const Tensor& d_out, const Tensor& d_final_states);

}  // namespace braid
