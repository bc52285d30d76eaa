#include "braid/layers/mixers/comba/scale_heads.h"

#include <algorithm>
#include <cmath>

#include "braid/core/parallel.h"
#include "braid/ops/column_sums.h"

namespace braid {
namespace {

struct Factor {
  float value;
  float slope;
};

Factor factor(float s, bool sigmoid) {
  if (!sigmoid) return {s, 1};
  const float y = 1.0f / (1.0f + std::exp(-s));
  return {y, y * (1 - y)};
}

// Tokens per range: about 16k elements, and at most 64 ranges so that partial sums stay small.
int64_t grain_of(const Tensor& x) {
  const int64_t row = std::max<int64_t>(1, x.size(1) * x.size(2));
  return std::max<int64_t>({1, (1 << 14) / row, (x.size(0) + 63) / 64});
}

}  // namespace

Tensor scale_heads(const Context& ctx, const Tensor& x, Parameter& s, bool sigmoid) {
  BRAID_CHECK(x.rank() == 3 && x.contiguous() && s.value.count() == x.size(1));
  const int64_t heads = x.size(1), dim = x.size(2);
  Tensor y = Tensor::empty(ctx, x.shape());
  parallel_for(ctx, x.size(0), grain_of(x), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * heads; i < end * heads; ++i) {
      const float f = factor(s.value.data()[i % heads], sigmoid).value;
      for (int64_t d = 0; d < dim; ++d) y.data()[i * dim + d] = f * x.data()[i * dim + d];
    }
  });
  if (Tape* tape = recording(ctx, {&x}, s.grad.defined())) {
    tape->record(y, [x, &s, sigmoid](Tape& t, const Tensor& dy) {
      t.add(x, scale_heads_backward(t.context(), x, s, sigmoid, dy));
    });
  }
  return y;
}

Tensor scale_heads_backward(const Context& ctx, const Tensor& x, Parameter& s, bool sigmoid,
                            const Tensor& dy) {
  const int64_t heads = x.size(1), dim = x.size(2), grain = grain_of(x);
  Tensor dx = Tensor::empty(ctx, x.shape());
  const ColumnSums sums(ctx, x.size(0), grain, heads);
  parallel_for(ctx, x.size(0), grain, [&](int64_t begin, int64_t end) {
    float* ds = sums.range(begin);
    for (int64_t i = begin * heads; i < end * heads; ++i) {
      const Factor f = factor(s.value.data()[i % heads], sigmoid);
      float dot = 0;
      for (int64_t d = 0; d < dim; ++d) {
        dot += x.data()[i * dim + d] * dy.data()[i * dim + d];
        dx.data()[i * dim + d] = f.value * dy.data()[i * dim + d];
      }
      ds[i % heads] += f.slope * dot;
    }
  });
  if (s.grad.defined()) sums.add_to(ctx, s.grad);
  return dx;
}

}  // namespace braid
