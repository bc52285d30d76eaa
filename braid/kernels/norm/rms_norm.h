#pragma once

#include <cstdint>

namespace braid {

// y = x * rstd * (w + add) per row, rstd = (mean(x^2) + eps)^-1/2 in f32 (arXiv 1910.07467). add =
// 1 is the zero-centred form (Gemma, Qwen3-Next). x, y: `rows` rows of `d` floats at strides ldx,
// ldy; rstd [rows].
void rms_norm_f32(const float* x, int64_t ldx, const float* w, float add, float eps, int64_t rows,
                  int64_t d, float* y, int64_t ldy, float* rstd);

// dx written, dw [d] added to. rstd as kept by the forward.
void rms_norm_backward_f32(const float* x, int64_t ldx, const float* w, float add,
                           const float* rstd, const float* dy, int64_t ldy, int64_t rows, int64_t d,
                           float* dx, int64_t lddx, float* dw);

}  // namespace braid
