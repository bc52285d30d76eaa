#pragma once
// Rotary position embedding of one token's heads (arXiv 2104.09864).

#include <cstdint>

namespace braid {

// y[h] = x[h] [d] of each head with 2 * pairs channels from `first` on rotated by the angles whose
// cosines and sines are given [pairs]; the rest is copied. Pairs are (i, i + pairs), or (2i, 2i +
// 1) when interleaved, counted from `first`. sign = -1 turns back, which is the gradient. ld_x and
// ld_y are head strides.
void rope_f32(const float* x, int64_t ld_x, int64_t heads, int64_t d, int64_t first,
              const float* cosine, const float* sine, int64_t pairs, float sign, bool interleaved,
              float* y, int64_t ld_y);

}  // namespace braid
