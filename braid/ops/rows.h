#pragma once

#include "braid/core/tensor.h"

namespace braid {

// A tensor seen as equally spaced rows of contiguous floats: what row kernels take. The first
// dimension may be strided, the inner ones must be contiguous (a slice of a projection's columns is
// such a tensor).
struct Rows {
  int64_t rows = 0, cols = 0, stride = 0;
};

// One row per index of the first dimension.
inline Rows rows_of(const Tensor& x) {
  BRAID_CHECK(x.rank() >= 1);
  int64_t inner = 1;
  for (int i = x.rank() - 1; i > 0; --i) {
    BRAID_CHECK(x.size(i) == 1 || x.stride(i) == inner);
    inner *= x.size(i);
  }
  return {x.size(0), inner, x.size(0) == 1 ? inner : x.stride(0)};
}

// A contiguous tensor with equal content: x itself when it is contiguous already. Not recorded.
Tensor packed(const Context& ctx, const Tensor& x);

}  // namespace braid
