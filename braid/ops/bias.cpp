#include "braid/ops/bias.h"

#include <algorithm>

#include "braid/core/parallel.h"
#include "braid/ops/column_sums.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

// Rows per range: about 16k elements, and at most 64 ranges so that partial sums stay small.
int64_t grain_of(int64_t rows, int64_t cols) {
  return std::max<int64_t>({1, (1 << 14) / std::max<int64_t>(1, cols), (rows + 63) / 64});
}

}  // namespace

Tensor add_bias(const Context& ctx, const Tensor& x, Parameter& bias) {
  const Rows n = rows_of(x);
  BRAID_CHECK(bias.value.count() == n.cols);
  Tensor y = Tensor::empty(ctx, x.shape());
  parallel_for(ctx, n.rows, grain_of(n.rows, n.cols), [&](int64_t begin, int64_t end) {
    const float* b = bias.value.data();
    for (int64_t t = begin; t < end; ++t) {
      const float* from = x.data() + t * n.stride;
      float* into = y.data() + t * n.cols;
      for (int64_t i = 0; i < n.cols; ++i) into[i] = from[i] + b[i];
    }
  });
  if (Tape* tape = recording(ctx, {&x}, bias.grad.defined())) {
    tape->record(y, [x, &bias](Tape& t, const Tensor& dy) {
      add_bias_backward(t.context(), bias, dy);
      t.add(x, dy);
    });
  }
  return y;
}

Tensor biased(const Context& ctx, const Tensor& x, Parameter* bias) {
  return bias == nullptr ? x : add_bias(ctx, x, *bias);
}

void add_bias_backward(const Context& ctx, Parameter& bias, const Tensor& dy) {
  if (!bias.grad.defined()) return;
  const Rows n = rows_of(dy);
  const int64_t grain = grain_of(n.rows, n.cols);
  const ColumnSums sums(ctx, n.rows, grain, n.cols);
  parallel_for(ctx, n.rows, grain, [&](int64_t begin, int64_t end) {
    float* into = sums.range(begin);
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t i = 0; i < n.cols; ++i) into[i] += dy.data()[t * n.cols + i];
    }
  });
  sums.add_to(ctx, bias.grad);
}

}  // namespace braid
