#pragma once
// Elementwise functions over n consecutive floats. Outputs may alias inputs of the same index.

#include <cstdint>

#include "braid/kernels/simd/activation.h"

namespace braid {

void sigmoid_f32(const float* x, float* y, int64_t n);
void sigmoid_backward_f32(const float* y, const float* dy, float* dx, int64_t n);  // y = sigmoid(x)
void silu_f32(const float* x, float* y, int64_t n);                                // x sigmoid(x)
void silu_backward_f32(const float* x, const float* dy, float* dx, int64_t n);
// y = act(x); any but kClamped, which is a gated pair
void activate_f32(Act act, const float* x, float* y, int64_t n);
void activate_backward_f32(Act act, const float* x, const float* dy, float* dx, int64_t n);
// y = act(gate) * up, the inside of a gated layer (arXiv 2002.05202)
void gated_f32(const Activation& act, const float* gate, const float* up, float* y, int64_t n);
void gated_backward_f32(const Activation& act, const float* gate, const float* up, const float* dy,
                        float* dgate, float* dup, int64_t n);
// y = x * sigmoid(gate)
void sigmoid_mul_f32(const float* x, const float* gate, float* y, int64_t n);
void sigmoid_mul_backward_f32(const float* x, const float* gate, const float* dy, float* dx,
                              float* dgate, int64_t n);

// y = cap tanh(x / cap)
void softcap_f32(const float* x, float cap, float* y, int64_t n);

}  // namespace braid
