#include "braid/ops/add_scaled.h"

#include <algorithm>
#include <utility>

#include "braid/core/parallel.h"
#include "braid/ops/column_sums.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

int64_t grain_of(const Rows& n) {
  return std::max<int64_t>({1, (1 << 14) / std::max<int64_t>(1, n.cols), (n.rows + 63) / 64});
}

// Factors repeated over the channels they scale, [C].
Tensor per_channel(const Context& ctx, const Tensor& by, int64_t channels) {
  const int64_t fold = channels / by.count();
  BRAID_CHECK(fold * by.count() == channels);
  if (fold == 1) return by;
  Tensor all = Tensor::empty(ctx, {channels});
  for (int64_t i = 0; i < by.count() && !ctx.dry(); ++i) {
    std::fill_n(all.data() + i * fold, fold, by.data()[i]);
  }
  return all;
}

// dx = by (.) dy; adds the gradient of `by`.
Tensor scaled_backward(const Context& ctx, const Tensor& x, Parameter& by, const Tensor& dy) {
  const Rows n = rows_of(x);
  const int64_t grain = grain_of(n);
  const Tensor factors = per_channel(ctx, by.value, n.cols);
  Tensor dx = Tensor::empty(ctx, x.shape());
  const ColumnSums sums(ctx, n.rows, grain, n.cols);
  parallel_for(ctx, n.rows, grain, [&](int64_t begin, int64_t end) {
    float* __restrict__ into = sums.range(begin);
    const float* __restrict__ f = factors.data();
    for (int64_t i = begin; i < end; ++i) {
      const float* __restrict__ from = x.data() + i * n.stride;
      const float* __restrict__ up = dy.data() + i * n.cols;
      float* __restrict__ to = dx.data() + i * n.cols;
      for (int64_t c = 0; c < n.cols; ++c) {
        to[c] = f[c] * up[c];
        into[c] += up[c] * from[c];
      }
    }
  });
  if (by.grad.defined()) sums.add_to(ctx, by.grad, n.cols / by.value.count());
  return dx;
}

// y may be undefined: zero.
Tensor scaled_sum(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& by) {
  const Rows n = rows_of(x);
  const Tensor factors = per_channel(ctx, by, n.cols);
  Tensor out = Tensor::empty(ctx, x.shape());
  parallel_for(ctx, n.rows, grain_of(n), [&](int64_t begin, int64_t end) {
    const float* __restrict__ f = factors.data();
    for (int64_t i = begin; i < end; ++i) {
      const float* __restrict__ from = x.data() + i * n.stride;
      float* __restrict__ to = out.data() + i * n.cols;
      if (y.defined()) {
        const float* __restrict__ add = y.data() + i * n.cols;
        for (int64_t c = 0; c < n.cols; ++c) to[c] = add[c] + f[c] * from[c];
      } else {
        for (int64_t c = 0; c < n.cols; ++c) to[c] = f[c] * from[c];
      }
    }
  });
  return out;
}

}  // namespace

Tensor add_scaled(const Context& ctx, const Tensor& y, const Tensor& x, Parameter& by) {
  BRAID_CHECK(y.contiguous() && y.shape() == x.shape());
  Tensor out = scaled_sum(ctx, y, x, by.value);
  if (Tape* tape = recording(ctx, {&y, &x}, by.grad.defined())) {
    tape->record(out, [y, x, &by](Tape& t, const Tensor& dy) {
      t.add(x, scaled_backward(t.context(), x, by, dy));
      t.add(y, dy);
    });
  }
  return out;
}

Tensor add_scaled(const Context& ctx, Tensor&& y, const Tensor& x, Parameter& by) {
  if (ctx.tape != nullptr) return add_scaled(ctx, static_cast<const Tensor&>(y), x, by);
  BRAID_CHECK(y.contiguous() && y.shape() == x.shape());
  const Rows n = rows_of(x);
  const Tensor factors = per_channel(ctx, by.value, n.cols);
  parallel_for(ctx, n.rows, grain_of(n), [&](int64_t begin, int64_t end) {
    const float* __restrict__ f = factors.data();
    for (int64_t i = begin; i < end; ++i) {
      const float* __restrict__ from = x.data() + i * n.stride;
      float* __restrict__ to = y.data() + i * n.cols;
      for (int64_t c = 0; c < n.cols; ++c) to[c] += f[c] * from[c];
    }
  });
  return std::move(y);
}

Tensor scale_channels(const Context& ctx, const Tensor& x, Parameter& by) {
  Tensor out = scaled_sum(ctx, {}, x, by.value);
  if (Tape* tape = recording(ctx, {&x}, by.grad.defined())) {
    tape->record(out, [x, &by](Tape& t, const Tensor& dy) {
      t.add(x, scaled_backward(t.context(), x, by, dy));
    });
  }
  return out;
}

}  // namespace braid
