#include "braid/ops/norm.h"

#include <algorithm>

#include "braid/base/format.h"
#include "braid/core/parallel.h"
#include "braid/kernels/norm/rms_norm.h"
#include "braid/ops/column_sums.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

// Rows of the first dimension hold `per_row` vectors each; all vectors of one row are adjacent.
struct NormRows {
  Rows outer;
  int64_t per_row, n;
  int64_t grain() const { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, outer.cols)); }
};

NormRows norm_rows(const Tensor& x) {
  const int64_t n = x.size(-1);
  const Rows r = x.rank() == 1 ? Rows{1, n, n} : rows_of(x);
  return {r, r.cols / n, n};
}

// Gains as the kernel takes them: w + add. One vector for all, or one for each vector of a row.
struct Gains {
  Parameter* w;  // null: none, all are 1
  Tensor value;
  float add;
  int64_t step(const NormRows& r) const { return value.count() == r.n ? 0 : r.n; }
};

Gains gains_of(const Context& ctx, Parameter* w, const NormRows& r, bool one_plus) {
  if (w == nullptr) return {nullptr, Tensor::zeros(ctx, {r.n}), 1.0f};
  if (w->value.count() != r.n && w->value.count() != r.outer.cols) {
    throw Error(ErrorKind::kInternal,
                format("{}: {} gains for vectors of {}", w->name, w->value.count(), r.n));
  }
  return {w, w->value, one_plus ? 1.0f : 0.0f};
}

// Calls body(vector, count, gain): all vectors of a row at once where they share their gains.
template <typename Body>
void for_vectors(const NormRows& r, const Gains& g, const Body& body) {
  if (g.step(r) == 0) return body(int64_t{0}, r.per_row, int64_t{0});
  for (int64_t v = 0; v < r.per_row; ++v) body(v, int64_t{1}, v * r.n);
}

Tensor backward(const Context& ctx, const Tensor& x, const Gains& g, const Tensor& rstd,
                const Tensor& dy) {
  const NormRows r = norm_rows(x);
  Tensor dx = Tensor::empty(ctx, x.shape());
  const int64_t grain = std::max(r.grain(), grain_for(r.outer.rows, 64));
  // One partial gain gradient per range, added in order: the sum does not depend on who computed
  // what.
  const ColumnSums sums(ctx, r.outer.rows, grain, g.value.count());
  parallel_for(ctx, r.outer.rows, grain, [&](int64_t begin, int64_t end) {
    float* dw = sums.range(begin);
    for (int64_t i = begin; i < end; ++i) {
      for_vectors(r, g, [&](int64_t first, int64_t count, int64_t gain) {
        const int64_t at = i * r.outer.cols + first * r.n;
        rms_norm_backward_f32(x.data() + i * r.outer.stride + first * r.n, r.n,
                              g.value.data() + gain, g.add, rstd.data() + i * r.per_row + first,
                              dy.data() + at, r.n, count, r.n, dx.data() + at, r.n, dw + gain);
      });
    }
  });
  if (g.w != nullptr && g.w->grad.defined()) sums.add_to(ctx, g.w->grad);
  return dx;
}

Tensor forward(const Context& ctx, const Tensor& x, Parameter* w, double eps, bool one_plus) {
  const NormRows r = norm_rows(x);
  const Gains g = gains_of(ctx, w, r, one_plus);
  Tensor y = Tensor::empty(ctx, x.shape());
  Tensor rstd = Tensor::empty(ctx, {r.outer.rows, r.per_row});
  parallel_for(ctx, r.outer.rows, r.grain(), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for_vectors(r, g, [&](int64_t first, int64_t count, int64_t gain) {
        rms_norm_f32(x.data() + i * r.outer.stride + first * r.n, r.n, g.value.data() + gain, g.add,
                     static_cast<float>(eps), count, r.n, y.data() + i * r.outer.cols + first * r.n,
                     r.n, rstd.data() + i * r.per_row + first);
      });
    }
  });
  if (Tape* tape = recording(ctx, {&x}, w != nullptr && w->grad.defined())) {
    tape->record(y, [x, g, rstd](Tape& t, const Tensor& dy) {
      t.add(x, backward(t.context(), x, g, rstd, dy));
    });
  }
  return y;
}

}  // namespace

Tensor rms_norm(const Context& ctx, const Tensor& x, Parameter& w, double eps, bool one_plus) {
  return forward(ctx, x, &w, eps, one_plus);
}

Tensor rms_norm(const Context& ctx, const Tensor& x, double eps) {
  return forward(ctx, x, nullptr, eps, false);
}

}  // namespace braid
