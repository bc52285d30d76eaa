#pragma once

#include <cstdint>

namespace braid {

// y = (x - mean) rstd w + b per row, rstd = (mean((x - mean)^2) + eps)^-1/2 in f32 (arXiv
// 1607.06450). x, y: `rows` rows of `d` floats at strides ldx, ldy; mean, rstd [rows].
void layer_norm_f32(const float* x, int64_t ldx, const float* w, const float* b, float eps,
                    int64_t rows, int64_t d, float* y, int64_t ldy, float* mean, float* rstd);

// dx written, dw [d] and db [d] added to. mean and rstd as kept by the forward.
void layer_norm_backward_f32(const float* x, int64_t ldx, const float* w, const float* mean,
                             const float* rstd, const float* dy, int64_t ldy, int64_t rows,
                             int64_t d, float* dx, int64_t lddx, float* dw, float* db);

}  // namespace braid
