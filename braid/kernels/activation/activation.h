#pragma once
// Elementwise functions over n consecutive floats. Outputs may alias inputs of the same index.

#include <cstdint>

namespace braid {

void sigmoid_f32(const float* x, float* y, int64_t n);
void sigmoid_backward_f32(const float* y, const float* dy, float* dx, int64_t n);  // y = sigmoid(x)
void silu_f32(const float* x, float* y, int64_t n);                                // x sigmoid(x)
void silu_backward_f32(const float* x, const float* dy, float* dx, int64_t n);
// y = silu(gate) * up, the inside of SwiGLU (arXiv 2002.05202)
void silu_mul_f32(const float* gate, const float* up, float* y, int64_t n);
void silu_mul_backward_f32(const float* gate, const float* up, const float* dy, float* dgate,
                           float* dup, int64_t n);
// y = x * sigmoid(gate)
void sigmoid_mul_f32(const float* x, const float* gate, float* y, int64_t n);
void sigmoid_mul_backward_f32(const float* x, const float* gate, const float* dy, float* dx,
                              float* dgate, int64_t n);

// y = cap tanh(x / cap)
void softcap_f32(const float* x, float cap, float* y, int64_t n);

}  // namespace braid
