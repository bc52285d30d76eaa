#include "braid/ops/column_sums.h"

#include <algorithm>

#include "braid/core/parallel.h"

namespace braid {

ColumnSums::ColumnSums(const Context& ctx, int64_t rows, int64_t grain, int64_t columns)
    : grain_(grain),
      ranges_((rows + grain - 1) / grain),
      columns_(columns),
      partial_(Tensor::zeros(ctx, {ranges_, columns})) {}

void ColumnSums::add_to(const Context& ctx, const Tensor& into, int64_t fold) const {
  BRAID_CHECK(into.contiguous() && into.count() * fold == columns_);
  const float* partial = partial_.data();
  float* sums = into.data();
  const int64_t grain = std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, ranges_ * fold));
  parallel_for(ctx, into.count(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      double sum = 0;
      for (int64_t r = 0; r < ranges_; ++r) {
        for (int64_t f = 0; f < fold; ++f) sum += partial[r * columns_ + i * fold + f];
      }
      sums[i] += static_cast<float>(sum);
    }
  });
}

}  // namespace braid
