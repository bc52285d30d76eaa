#include "braid/ops/layer_norm.h"

#include <algorithm>

#include "braid/core/parallel.h"
#include "braid/kernels/norm/layer_norm.h"
#include "braid/ops/column_sums.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

int64_t forward_grain(const Rows& r) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, r.cols));
}

// At most 64 ranges, so that the partial sums stay small.
int64_t backward_grain(const Rows& r) { return std::max(forward_grain(r), (r.rows + 63) / 64); }

struct Kept {
  Tensor mean, rstd;  // [G, T]
};

int64_t groups_of(const Tensor& x) { return x.rank() == 3 ? x.size(1) : 1; }

Tensor backward(const Context& ctx, const Tensor& x, Parameter& w, Parameter& b, const Kept& kept,
                const Tensor& dy) {
  const Rows r = rows_of(x);
  const int64_t groups = groups_of(x), n = r.cols / groups, grain = backward_grain(r);
  Tensor dx = Tensor::empty(ctx, x.shape());
  const ColumnSums dw(ctx, r.rows, grain, r.cols), db(ctx, r.rows, grain, r.cols);
  parallel_for(ctx, r.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t at = begin * r.cols + g * n, row = g * r.rows + begin;
      layer_norm_backward_f32(x.data() + begin * r.stride + g * n, r.stride, w.value.data() + g * n,
                              kept.mean.data() + row, kept.rstd.data() + row, dy.data() + at,
                              r.cols, end - begin, n, dx.data() + at, r.cols,
                              dw.range(begin) + g * n, db.range(begin) + g * n);
    }
  });
  if (w.grad.defined()) dw.add_to(ctx, w.grad);
  if (b.grad.defined()) db.add_to(ctx, b.grad);
  return dx;
}

}  // namespace

Tensor layer_norm(const Context& ctx, const Tensor& x, Parameter& w, Parameter& b, double eps) {
  const Rows r = rows_of(x);
  const int64_t groups = groups_of(x), n = r.cols / groups;
  BRAID_CHECK(x.rank() <= 3 && w.value.count() == r.cols && b.value.count() == r.cols);
  Tensor y = Tensor::empty(ctx, x.shape());
  const Kept kept{Tensor::empty(ctx, {groups, r.rows}), Tensor::empty(ctx, {groups, r.rows})};
  parallel_for(ctx, r.rows, forward_grain(r), [&](int64_t begin, int64_t end) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t row = g * r.rows + begin;
      layer_norm_f32(x.data() + begin * r.stride + g * n, r.stride, w.value.data() + g * n,
                     b.value.data() + g * n, static_cast<float>(eps), end - begin, n,
                     y.data() + begin * r.cols + g * n, r.cols, kept.mean.data() + row,
                     kept.rstd.data() + row);
    }
  });
  if (Tape* tape = recording(ctx, {&x}, w.grad.defined() || b.grad.defined())) {
    tape->record(y, [x, &w, &b, kept](Tape& t, const Tensor& dy) {
      t.add(x, backward(t.context(), x, w, b, kept, dy));
    });
  }
  return y;
}

}  // namespace braid
