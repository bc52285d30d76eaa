#include "braid/ops/linear.h"

#include "braid/base/format.h"
#include "braid/ops/product.h"
#include "braid/ops/rows.h"

namespace braid {

Tensor linear(const Context& ctx, const Tensor& x, Parameter& w) {
  const Rows r = rows_of(x);
  const int64_t out = w.value.size(0), in = w.value.size(1);
  if (r.cols != in) {
    throw Error(ErrorKind::kInternal,
                format("{}: input has {} channels, the weight takes {}", w.name, r.cols, in));
  }
  Tensor y = Tensor::empty(ctx, {r.rows, out});
  product(ctx, false, true, r.rows, out, in, x.data(), r.stride, w.value.data(), in, 0, y.data(),
          out);
  if (Tape* tape = recording(ctx, {&x}, w.grad.defined())) {
    tape->record(y, [x, &w](Tape& t, const Tensor& dy) {
      Tensor dx = linear_backward(t.context(), x, w, dy, t.wants(x));
      if (dx.defined()) t.add(x, dx.reshape(x.shape()));
    });
  }
  return y;
}

Tensor linear_backward(const Context& ctx, const Tensor& x, Parameter& w, const Tensor& dy,
                       bool want_dx) {
  const Rows r = rows_of(x);
  const int64_t out = w.value.size(0), in = w.value.size(1);
  if (w.grad.defined()) {
    product(ctx, true, false, out, in, r.rows, dy.data(), out, x.data(), r.stride, 1, w.grad.data(),
            in);
  }
  if (!want_dx) return {};
  Tensor dx = Tensor::empty(ctx, {r.rows, in});
  product(ctx, false, false, r.rows, in, out, dy.data(), out, w.value.data(), in, 0, dx.data(), in);
  return dx;
}

}  // namespace braid
