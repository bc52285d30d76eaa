#include "braid/ops/time_step.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "braid/core/parallel.h"
#include "braid/kernels/gate/gate.h"
#include "braid/ops/column_sums.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

int64_t grain_of(const Rows& n) {
  return std::max<int64_t>({1, (1 << 14) / std::max<int64_t>(1, n.cols), (n.rows + 63) / 64});
}

// -softplus(raw + bias)
DecayGate softplus_gate(const Tensor& ones, const Parameter& bias) {
  return {DecayForm::kSoftplus, 0, ones.data(), bias.value.data()};
}

// d_dt and d_g may be undefined. Adds to A_log.grad and dt_bias.grad.
Tensor time_steps_backward(const Context& ctx, const Tensor& raw, Parameter& a_log,
                           Parameter& dt_bias, double low, double high, const TimeSteps& out,
                           const Tensor& d_dt, const Tensor& d_g) {
  const Rows n = rows_of(raw);
  const int64_t grain = grain_of(n);
  Tensor draw = Tensor::empty(ctx, raw.shape()), d_steps = Tensor::empty(ctx, raw.shape());
  const Tensor ones = Tensor::full(ctx, {n.cols}, 1.0f);
  const ColumnSums bias_sums(ctx, n.rows, grain, n.cols), rate_sums(ctx, n.rows, grain, n.cols),
      unused(ctx, n.rows, grain, n.cols);
  parallel_for(ctx, n.rows, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> rate(static_cast<size_t>(n.cols));
    for (int64_t h = 0; h < n.cols; ++h) {
      rate[static_cast<size_t>(h)] = std::exp(a_log.value.data()[h]);
    }
    float* sums = rate_sums.range(begin);
    for (int64_t i = begin * n.cols; i < end * n.cols; ++i) {
      const int64_t h = i % n.cols;
      const float dt = out.dt.data()[i], dg = d_g.defined() ? d_g.data()[i] : 0.0f;
      const float up = (d_dt.defined() ? d_dt.data()[i] : 0.0f) - rate[static_cast<size_t>(h)] * dg;
      sums[h] += dg * out.g.data()[i];
      // The kernel takes gradients of -softplus.
      const bool inside = dt > static_cast<float>(low) && dt < static_cast<float>(high);
      d_steps.data()[i] = inside ? -up : 0.0f;
    }
    decay_gate_backward_f32(softplus_gate(ones, dt_bias), end - begin, n.cols,
                            raw.data() + begin * n.stride, n.stride,
                            d_steps.data() + begin * n.cols, draw.data() + begin * n.cols,
                            bias_sums.range(begin), unused.range(begin));
  });
  if (dt_bias.grad.defined()) bias_sums.add_to(ctx, dt_bias.grad);
  if (a_log.grad.defined()) rate_sums.add_to(ctx, a_log.grad);
  return draw;
}

}  // namespace

TimeSteps time_steps(const Context& ctx, const Tensor& raw, Parameter& a_log, Parameter& dt_bias,
                     double low, double high) {
  const Rows n = rows_of(raw);
  BRAID_CHECK(a_log.value.count() == n.cols && dt_bias.value.count() == n.cols);
  TimeSteps out{Tensor::empty(ctx, raw.shape()), Tensor::empty(ctx, raw.shape())};
  const Tensor ones = Tensor::full(ctx, {n.cols}, 1.0f);
  parallel_for(ctx, n.rows, grain_of(n), [&](int64_t begin, int64_t end) {
    decay_gate_f32(softplus_gate(ones, dt_bias), end - begin, n.cols, raw.data() + begin * n.stride,
                   n.stride, out.dt.data() + begin * n.cols);
    std::vector<float> rate(static_cast<size_t>(n.cols));
    for (int64_t h = 0; h < n.cols; ++h) {
      rate[static_cast<size_t>(h)] = std::exp(a_log.value.data()[h]);
    }
    for (int64_t i = begin * n.cols; i < end * n.cols; ++i) {
      float& dt = out.dt.data()[i];
      dt = std::clamp(-dt, static_cast<float>(low), static_cast<float>(high));
      out.g.data()[i] = -rate[static_cast<size_t>(i % n.cols)] * dt;
    }
  });
  if (Tape* tape = recording(ctx, {&raw}, a_log.grad.defined() || dt_bias.grad.defined())) {
    Tensor* const outputs[] = {&out.dt, &out.g};
    const TimeSteps kept = out;  // before they get slots: values only
    tape->record_many(
        outputs, [raw, &a_log, &dt_bias, low, high, kept](Tape& t, std::span<const Tensor> grads) {
          t.add(raw, time_steps_backward(t.context(), raw, a_log, dt_bias, low, high, kept,
                                         grads[0], grads[1]));
        });
  }
  return out;
}

}  // namespace braid
