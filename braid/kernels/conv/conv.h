#pragma once
// Causal depthwise short convolution (GDN, KDA, Mamba): taps of a few tokens, one filter per
// channel. Filters come tap-major, w[taps, C], tap 0 the oldest, so that channels are the vector
// dimension.

#include <cstdint>

namespace braid {

constexpr int kMaxConvTaps = 16;
constexpr int64_t kConvBackwardBlock = 256;  // channels of one call of the backward kernel

// Rows [begin, end) of a sequence that has `length` rows. Row pointers below are of the sequence's
// first row.
struct ConvRows {
  int64_t begin;
  int64_t end;
  int64_t length;
};

struct ConvFilter {
  const float* w;  // [taps, C]
  int64_t ldw;
  int taps;
  bool silu;                    // apply silu to the sum
  const float* bias = nullptr;  // [C], added to the sum; null = none
};

// y_t = act(bias + sum_j w_j x_{t - (taps - 1) + j}). `window` [taps - 1, C] holds the inputs
// before row 0, oldest first, or is null for zeros. Adding up from the oldest tap makes a cut
// sequence bitwise equal to a whole one.
void short_conv_f32(const ConvFilter& filter, ConvRows rows, int64_t channels, const float* x,
                    int64_t ldx, const float* window, int64_t ld_window, float* y, int64_t ldy);

// Writes dx of the rows and adds their part of dw [taps, C], and with a bias of its gradient in row
// `taps` of dw. Needs dy and x of up to taps - 1 rows
// past `end`. The inputs before row 0 are zeros.
void short_conv_backward_f32(const ConvFilter& filter, ConvRows rows, int64_t channels,
                             const float* x, int64_t ldx, const float* dy, int64_t ldy, float* dx,
                             int64_t lddx, float* dw, int64_t lddw);

}  // namespace braid
