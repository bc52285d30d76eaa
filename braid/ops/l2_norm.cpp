#include "braid/ops/l2_norm.h"

#include "braid/core/parallel.h"
#include "braid/ops/head_layout.h"

namespace braid {

Tensor l2_norm(const Context& ctx, const Tensor& x, double eps) {
  const HeadStrides xs = head_strides(x);
  Tensor y = Tensor::empty(ctx, x.shape());
  const int64_t row = x.size(1) * x.size(2);
  parallel_for(ctx, x.size(0), head_rows_grain(x), [&](int64_t begin, int64_t end) {
    l2_norm_f32({end - begin, x.size(1), x.size(2)}, static_cast<float>(eps),
                x.data() + begin * xs.row, xs, y.data() + begin * row);
  });
  if (Tape* tape = recording(ctx, {&x})) {
    tape->record(y, [x, eps](Tape& t, const Tensor& dy) {
      t.add(x, l2_norm_backward(t.context(), x, eps, dy));
    });
  }
  return y;
}

Tensor l2_norm_backward(const Context& ctx, const Tensor& x, double eps, const Tensor& dy) {
  const HeadStrides xs = head_strides(x);
  BRAID_CHECK(dy.contiguous() && dy.shape() == x.shape());
  Tensor dx = Tensor::empty(ctx, x.shape());
  const int64_t row = x.size(1) * x.size(2);
  parallel_for(ctx, x.size(0), head_rows_grain(x), [&](int64_t begin, int64_t end) {
    l2_norm_backward_f32({end - begin, x.size(1), x.size(2)}, static_cast<float>(eps),
                         x.data() + begin * xs.row, xs, dy.data() + begin * row,
                         dx.data() + begin * row);
  });
  return dx;
}

}  // namespace braid
