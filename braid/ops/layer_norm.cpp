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
  Tensor mean, rstd;  // [T]
};

Tensor backward(const Context& ctx, const Tensor& x, Parameter& w, Parameter& b, const Kept& kept,
                const Tensor& dy) {
  const Rows r = rows_of(x);
  Tensor dx = Tensor::empty(ctx, x.shape());
  const int64_t grain = backward_grain(r);
  const ColumnSums dw(ctx, r.rows, grain, r.cols), db(ctx, r.rows, grain, r.cols);
  parallel_for(ctx, r.rows, grain, [&](int64_t begin, int64_t end) {
    layer_norm_backward_f32(x.data() + begin * r.stride, r.stride, w.value.data(),
                            kept.mean.data() + begin, kept.rstd.data() + begin,
                            dy.data() + begin * r.cols, r.cols, end - begin, r.cols,
                            dx.data() + begin * r.cols, r.cols, dw.range(begin), db.range(begin));
  });
  if (w.grad.defined()) dw.add_to(ctx, w.grad);
  if (b.grad.defined()) db.add_to(ctx, b.grad);
  return dx;
}

}  // namespace

Tensor layer_norm(const Context& ctx, const Tensor& x, Parameter& w, Parameter& b, double eps) {
  const Rows r = rows_of(x);
  BRAID_CHECK(x.rank() == 2 && w.value.count() == r.cols && b.value.count() == r.cols);
  Tensor y = Tensor::empty(ctx, x.shape());
  const Kept kept{Tensor::empty(ctx, {r.rows}), Tensor::empty(ctx, {r.rows})};
  parallel_for(ctx, r.rows, forward_grain(r), [&](int64_t begin, int64_t end) {
    layer_norm_f32(x.data() + begin * r.stride, r.stride, w.value.data(), b.value.data(),
                   static_cast<float>(eps), end - begin, r.cols, y.data() + begin * r.cols, r.cols,
                   kept.mean.data() + begin, kept.rstd.data() + begin);
  });
  if (Tape* tape = recording(ctx, {&x}, w.grad.defined() || b.grad.defined())) {
    tape->record(y, [x, &w, &b, kept](Tape& t, const Tensor& dy) {
      t.add(x, backward(t.context(), x, w, b, kept, dy));
    });
  }
  return y;
}

}  // namespace braid
