#pragma once
// Norms over one head's channels: the L2 norm of queries and keys and the gated RMSNorm of outputs
// (specs/linear-recurrences.md section 7).

#include <cstdint>

namespace braid {

// Where the heads of a [rows, heads, size] operand lie; channels are contiguous.
struct HeadLayout {
  int64_t rows;
  int64_t heads;
  int64_t size;
};

struct HeadStrides {
  int64_t row;
  int64_t head;
};

// y = x (sum x^2 + eps)^-1/2 per head; y is contiguous.
void l2_norm_f32(HeadLayout n, float eps, const float* x, HeadStrides xs, float* y);
// dx = rho (dy - y (y . dy)); dy and dx contiguous.
void l2_norm_backward_f32(HeadLayout n, float eps, const float* x, HeadStrides xs, const float* dy,
                          float* dx);

enum class GateAct { kSilu, kSigmoid };

// y = x (mean x^2 + eps)^-1/2 w act(z) per head, one w [size] for all; y contiguous.
void gated_norm_f32(HeadLayout n, float eps, GateAct act, const float* x, HeadStrides xs,
                    const float* z, HeadStrides zs, const float* w, float* y);
// dy, dx, dz contiguous; adds to dw [size].
void gated_norm_backward_f32(HeadLayout n, float eps, GateAct act, const float* x, HeadStrides xs,
                             const float* z, HeadStrides zs, const float* w, const float* dy,
                             float* dx, float* dz, float* dw);

}  // namespace braid
