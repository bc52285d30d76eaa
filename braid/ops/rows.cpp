#include "braid/ops/rows.h"

#include <cstring>

#include "braid/core/parallel.h"

namespace braid {

Tensor packed(const Context& ctx, const Tensor& x) {
  if (x.contiguous()) return x;
  const Rows r = rows_of(x);
  Tensor y = Tensor::empty(ctx, x.shape());
  const float* from = x.data();
  float* into = y.data();
  parallel_for(ctx, r.rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(into + i * r.cols, from + i * r.stride,
                  static_cast<size_t>(r.cols) * sizeof(float));
    }
  });
  return y;
}

}  // namespace braid
