#include "braid/ops/gated_norm.h"

#include "braid/core/parallel.h"
#include "braid/ops/column_sums.h"
#include "braid/ops/head_layout.h"

namespace braid {

Tensor gated_norm(const Context& ctx, const Tensor& x, const Tensor& z, Parameter& weight,
                  double eps, GateAct act) {
  const HeadStrides xs = head_strides(x), zs = head_strides(z);
  BRAID_CHECK(z.shape() == x.shape() && weight.value.count() == x.size(2));
  Tensor y = Tensor::empty(ctx, x.shape());
  const int64_t row = x.size(1) * x.size(2);
  parallel_for(ctx, x.size(0), head_rows_grain(x), [&](int64_t begin, int64_t end) {
    gated_norm_f32({end - begin, x.size(1), x.size(2)}, static_cast<float>(eps), act,
                   x.data() + begin * xs.row, xs, z.data() + begin * zs.row, zs,
                   weight.value.data(), y.data() + begin * row);
  });
  if (Tape* tape = recording(ctx, {&x, &z}, weight.grad.defined())) {
    tape->record(y, [x, z, &weight, eps, act](Tape& t, const Tensor& dy) {
      GatedNormGrads g = gated_norm_backward(t.context(), x, z, weight, eps, act, dy);
      t.add(x, std::move(g.dx));
      t.add(z, std::move(g.dz));
    });
  }
  return y;
}

GatedNormGrads gated_norm_backward(const Context& ctx, const Tensor& x, const Tensor& z,
                                   Parameter& weight, double eps, GateAct act, const Tensor& dy) {
  const HeadStrides xs = head_strides(x), zs = head_strides(z);
  BRAID_CHECK(dy.contiguous() && dy.shape() == x.shape());
  GatedNormGrads g{Tensor::empty(ctx, x.shape()), Tensor::empty(ctx, x.shape())};
  const int64_t row = x.size(1) * x.size(2), grain = head_rows_grain(x);
  const ColumnSums dw(ctx, x.size(0), grain, x.size(2));
  parallel_for(ctx, x.size(0), grain, [&](int64_t begin, int64_t end) {
    gated_norm_backward_f32({end - begin, x.size(1), x.size(2)}, static_cast<float>(eps), act,
                            x.data() + begin * xs.row, xs, z.data() + begin * zs.row, zs,
                            weight.value.data(), dy.data() + begin * row, g.dx.data() + begin * row,
                            g.dz.data() + begin * row, dw.range(begin));
  });
  if (weight.grad.defined()) dw.add_to(ctx, weight.grad);
  return g;
}

}  // namespace braid
