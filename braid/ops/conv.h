#pragma once
// Causal depthwise short convolution over a ragged batch (fla's ShortConvolution; GDN 2412.06464,
// KDA 2510.26692).

#include <span>

#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

int64_t max_conv_taps();  // the largest Kc

// y[t, c] = act(bias[c] + sum_j weight[c, 0, j] x[t - (Kc - 1) + j, c]) inside each sequence; act
// is silu or nothing. x [T, C], rows may be strided; weight [C, 1, Kc]; bias [C] or null; y [T, C].
// Sequence s owns rows [seq_starts[s], seq_starts[s + 1]). windows: one [Kc - 1, C] per sequence
// with the last raw inputs before it, oldest first, read and then moved on past this call's rows;
// empty = zeros before every sequence and nothing kept. A call with windows is not differentiable.
Tensor short_conv(const Context& ctx, const Tensor& x, Parameter& weight,
                  std::span<const int64_t> seq_starts, bool silu,
                  std::span<const Tensor> windows = {}, Parameter* bias = nullptr);

// Returns dx [T, C] and adds to weight.grad and bias->grad.
Tensor short_conv_backward(const Context& ctx, const Tensor& x, Parameter& weight,
                           std::span<const int64_t> seq_starts, bool silu, const Tensor& dy,
                           Parameter* bias = nullptr);

}  // namespace braid
