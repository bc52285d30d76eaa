#include "braid/ops/decay_gate.h"

#include <algorithm>
#include <cmath>

#include "braid/core/parallel.h"
#include "braid/kernels/gate/gate.h"
#include "braid/ops/column_sums.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

// Rows per range: about 16k elements, and at most 64 ranges so that partial sums stay small.
int64_t grain_of(const Rows& n) {
  return std::max<int64_t>({1, (1 << 14) / std::max<int64_t>(1, n.cols), (n.rows + 63) / 64});
}

Tensor run_gate(const Context& ctx, const DecayGate& gate, const Tensor& a) {
  const Rows n = rows_of(a);
  Tensor g = Tensor::empty(ctx, a.shape());
  parallel_for(ctx, n.rows, grain_of(n), [&](int64_t begin, int64_t end) {
    decay_gate_f32(gate, end - begin, n.cols, a.data() + begin * n.stride, n.stride,
                   g.data() + begin * n.cols);
  });
  return g;
}

// Adds to dbias [columns] and to dlog, the gradient of log(rate), one element per `fold` columns;
// either may be null or undefined.
Tensor run_gate_backward(const Context& ctx, const DecayGate& gate, const Tensor& a,
                         const Tensor& dg, const Tensor* dbias, const Tensor* dlog, int64_t fold) {
  const Rows n = rows_of(a);
  BRAID_CHECK(dg.contiguous() && dg.shape() == a.shape());
  Tensor da = Tensor::empty(ctx, a.shape());
  const int64_t grain = grain_of(n);
  const ColumnSums bias_sums(ctx, n.rows, grain, n.cols), log_sums(ctx, n.rows, grain, n.cols);
  parallel_for(ctx, n.rows, grain, [&](int64_t begin, int64_t end) {
    decay_gate_backward_f32(gate, end - begin, n.cols, a.data() + begin * n.stride, n.stride,
                            dg.data() + begin * n.cols, da.data() + begin * n.cols,
                            bias_sums.range(begin), log_sums.range(begin));
  });
  if (dbias != nullptr && dbias->defined()) bias_sums.add_to(ctx, *dbias);
  if (dlog != nullptr && dlog->defined()) log_sums.add_to(ctx, *dlog, fold);
  return da;
}

// exp(A_log) repeated over the channels of each head.
Tensor repeated_rate(const Context& ctx, const Tensor& a_log, int64_t columns) {
  const int64_t heads = a_log.count();
  BRAID_CHECK(heads > 0 && columns % heads == 0);
  Tensor rate = Tensor::empty(ctx, {columns});
  const int64_t width = columns / heads;
  parallel_for(ctx, heads, heads, [&](int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; ++h) {
      std::fill_n(rate.data() + h * width, width, std::exp(a_log.data()[h]));
    }
  });
  return rate;
}

Tensor constant_rate(const Context& ctx, int64_t columns, double value) {
  return Tensor::full(ctx, {columns}, static_cast<float>(value));
}

DecayGate decay_form(double lower_bound, const Tensor& rate, const Tensor& bias) {
  BRAID_CHECK(lower_bound <= 0 && bias.count() == rate.count());
  return {lower_bound < 0 ? DecayForm::kLowerBound : DecayForm::kSoftplus,
          static_cast<float>(lower_bound), rate.data(), bias.data()};
}

DecayGate log_sigmoid_form(const Tensor& rate, const Parameter* bias) {
  BRAID_CHECK(bias == nullptr || bias->value.count() == rate.count());
  return {DecayForm::kLogSigmoid, 0, rate.data(), bias != nullptr ? bias->value.data() : nullptr};
}

}  // namespace

Tensor decay_gate(const Context& ctx, const Tensor& a, Parameter& a_log, Parameter& dt_bias,
                  double lower_bound) {
  const Tensor rate = repeated_rate(ctx, a_log.value, rows_of(a).cols);
  Tensor g = run_gate(ctx, decay_form(lower_bound, rate, dt_bias.value), a);
  if (Tape* tape = recording(ctx, {&a}, a_log.grad.defined() || dt_bias.grad.defined())) {
    tape->record(g, [a, &a_log, &dt_bias, lower_bound](Tape& t, const Tensor& dg) {
      t.add(a, decay_gate_backward(t.context(), a, a_log, dt_bias, lower_bound, dg));
    });
  }
  return g;
}

Tensor decay_gate_backward(const Context& ctx, const Tensor& a, Parameter& a_log,
                           Parameter& dt_bias, double lower_bound, const Tensor& dg) {
  const int64_t columns = rows_of(a).cols;
  const Tensor rate = repeated_rate(ctx, a_log.value, columns);
  return run_gate_backward(ctx, decay_form(lower_bound, rate, dt_bias.value), a, dg, &dt_bias.grad,
                           &a_log.grad, columns / a_log.value.count());
}

Tensor log_sigmoid_gate(const Context& ctx, const Tensor& x, Parameter* bias, double scale) {
  const Tensor rate = constant_rate(ctx, rows_of(x).cols, scale);
  Tensor g = run_gate(ctx, log_sigmoid_form(rate, bias), x);
  if (Tape* tape = recording(ctx, {&x}, bias != nullptr && bias->grad.defined())) {
    tape->record(g, [x, bias, scale](Tape& t, const Tensor& dg) {
      t.add(x, log_sigmoid_gate_backward(t.context(), x, bias, scale, dg));
    });
  }
  return g;
}

Tensor log_sigmoid_gate_backward(const Context& ctx, const Tensor& x, Parameter* bias, double scale,
                                 const Tensor& dg) {
  const Tensor rate = constant_rate(ctx, rows_of(x).cols, scale);
  return run_gate_backward(ctx, log_sigmoid_form(rate, bias), x, dg,
                           bias != nullptr ? &bias->grad : nullptr, nullptr, 1);
}

Tensor beta_gate(const Context& ctx, const Tensor& x, double scale) {
  const Rows n = rows_of(x);
  Tensor y = Tensor::empty(ctx, x.shape());
  parallel_for(ctx, n.rows, grain_of(n), [&](int64_t begin, int64_t end) {
    scaled_sigmoid_f32(static_cast<float>(scale), end - begin, n.cols, x.data() + begin * n.stride,
                       n.stride, y.data() + begin * n.cols);
  });
  if (Tape* tape = recording(ctx, {&x})) {
    tape->record(y, [x, y = y, scale](Tape& t, const Tensor& dy) {
      t.add(x, beta_gate_backward(t.context(), y, scale, dy));
    });
  }
  return y;
}

Tensor beta_gate_backward(const Context& ctx, const Tensor& beta, double scale, const Tensor& dy) {
  BRAID_CHECK(beta.contiguous() && dy.contiguous() && dy.shape() == beta.shape());
  Tensor dx = Tensor::empty(ctx, beta.shape());
  parallel_for(ctx, beta.count(), 1 << 14, [&](int64_t begin, int64_t end) {
    scaled_sigmoid_backward_f32(static_cast<float>(scale), end - begin, beta.data() + begin,
                                dy.data() + begin, dx.data() + begin);
  });
  return dx;
}

}  // namespace braid
