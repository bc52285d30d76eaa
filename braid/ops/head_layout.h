#pragma once
// From a [T, H, K] tensor to what the head norm kernels take.

#include <algorithm>

#include "braid/core/tensor.h"
#include "braid/kernels/head_norm/head_norm.h"

namespace braid {

inline HeadStrides head_strides(const Tensor& x) {
  BRAID_CHECK(x.rank() == 3 && (x.size(2) == 1 || x.stride(2) == 1));
  return {x.stride(0), x.stride(1)};
}

// Rows per range: about 32k elements, and at most 64 ranges so that partial sums stay small.
inline int64_t head_rows_grain(const Tensor& x) {
  const int64_t row = std::max<int64_t>(1, x.size(1) * x.size(2));
  return std::max<int64_t>({1, (1 << 15) / row, (x.size(0) + 63) / 64});
}

}  // namespace braid
