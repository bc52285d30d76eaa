#include "braid/ops/norm.h"

#include <algorithm>
#include <cstring>

#include "braid/base/format.h"
#include "braid/core/parallel.h"
#include "braid/kernels/norm/rms_norm.h"
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

void backward(const Context& ctx, const Tensor& x, Parameter& w, float add, const Tensor& rstd,
              const Tensor& dy, Tensor& dx) {
  const NormRows r = norm_rows(x);
  const int64_t grain = std::max(r.grain(), grain_for(r.outer.rows, 64));
  const int64_t ranges = (r.outer.rows + grain - 1) / grain;
  // One partial gain gradient per range, added in order: the sum does not depend on who computed
  // what.
  Tensor partial = Tensor::zeros(ctx, {ranges, r.n});
  parallel_for(ctx, r.outer.rows, grain, [&](int64_t begin, int64_t end) {
    float* dw = partial.data() + begin / grain * r.n;
    for (int64_t i = begin; i < end; ++i) {
      rms_norm_backward_f32(x.data() + i * r.outer.stride, r.n, w.value.data(), add,
                            rstd.data() + i * r.per_row, dy.data() + i * r.outer.cols, r.n,
                            r.per_row, r.n, dx.data() + i * r.outer.cols, r.n, dw);
    }
  });
  if (!w.grad.defined()) return;
  parallel_for(ctx, r.n, 256, [&](int64_t begin, int64_t end) {
    for (int64_t p = 0; p < ranges; ++p) {
      for (int64_t i = begin; i < end; ++i) w.grad.data()[i] += partial.data()[p * r.n + i];
    }
  });
}

}  // namespace

Tensor rms_norm(const Context& ctx, const Tensor& x, Parameter& w, double eps, bool one_plus) {
  const NormRows r = norm_rows(x);
  if (w.value.count() != r.n) {
    throw Error(ErrorKind::kInternal,
                format("{}: {} gains for vectors of {}", w.name, w.value.count(), r.n));
  }
  const float plus = one_plus ? 1.0f : 0.0f;
  Tensor y = Tensor::empty(ctx, x.shape());
  Tensor rstd = Tensor::empty(ctx, {r.outer.rows, r.per_row});
  parallel_for(ctx, r.outer.rows, r.grain(), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      rms_norm_f32(x.data() + i * r.outer.stride, r.n, w.value.data(), plus,
                   static_cast<float>(eps), r.per_row, r.n, y.data() + i * r.outer.cols, r.n,
                   rstd.data() + i * r.per_row);
    }
  });
  if (Tape* tape = recording(ctx, {&x}, w.grad.defined())) {
    tape->record(y, [x, &w, plus, rstd](Tape& t, const Tensor& dy) {
      Tensor dx = Tensor::empty(t.context(), x.shape());
      backward(t.context(), x, w, plus, rstd, dy, dx);
      t.add(x, dx);
    });
  }
  return y;
}

}  // namespace braid
