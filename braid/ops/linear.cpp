#include "braid/ops/linear.h"

#include "braid/base/format.h"
#include "braid/ops/product.h"
#include "braid/ops/rows.h"
#include "braid/ops/weight_product.h"

namespace braid {
namespace {

void check_input(const Rows& r, const Parameter& w) {
  if (r.cols != w.value.size(1)) {
    throw Error(ErrorKind::kInternal, format("{}: input has {} channels, the weight takes {}",
                                             w.name, r.cols, w.value.size(1)));
  }
}

std::vector<Tensor> forward(const Context& ctx, const Tensor& x,
                            std::span<Parameter* const> weights) {
  const Rows r = rows_of(x);
  std::vector<Tensor> outputs;
  std::vector<WeightJob> jobs;
  for (const Parameter* w : weights) {
    check_input(r, *w);
    const int64_t out = w->value.size(0);
    outputs.push_back(Tensor::empty(ctx, {r.rows, out}));
    jobs.push_back({weight_view(*w), 0, r.rows, outputs.back().data(), out});
  }
  weight_product(ctx, x.data(), r.stride, jobs);
  return outputs;
}

void add_weight_gradient(const Context& ctx, const Rows& r, const Tensor& x, Parameter& w,
                         const Tensor& dy) {
  if (!w.grad.defined()) return;
  const int64_t out = w.value.size(0);
  product(ctx, true, false, out, r.cols, r.rows, dy.data(), out, x.data(), r.stride, 1,
          w.grad.data(), r.cols);
}

// dx = dy w + beta dx, contiguous.
void input_gradient(const Context& ctx, const Rows& r, const Parameter& w, const Tensor& dy,
                    float beta, const Tensor& dx) {
  const int64_t out = w.value.size(0);
  product(ctx, false, false, r.rows, r.cols, out, dy.data(), out, w.value.data(), r.cols, beta,
          dx.data(), r.cols);
}

}  // namespace

Tensor linear(const Context& ctx, const Tensor& x, Parameter& w) {
  Parameter* const one[] = {&w};
  Tensor y = forward(ctx, x, one)[0];
  if (Tape* tape = recording(ctx, {&x}, w.grad.defined())) {
    tape->record(y, [x, &w](Tape& t, const Tensor& dy) {
      Tensor dx = linear_backward(t.context(), x, w, dy, t.wants(x));
      if (dx.defined()) t.add(x, dx.reshape(x.shape()));
    });
  }
  return y;
}

std::vector<Tensor> linear_many(const Context& ctx, const Tensor& x,
                                std::span<Parameter* const> weights) {
  std::vector<Tensor> outputs = forward(ctx, x, weights);
  std::vector<Tensor*> slots;
  bool trains = false;
  for (const Parameter* w : weights) trains = trains || w->grad.defined();
  Tape* tape = recording(ctx, {&x}, trains);
  if (tape == nullptr) return outputs;
  for (Tensor& y : outputs) slots.push_back(&y);
  tape->record_many(slots, [x, ws = std::vector<Parameter*>(weights.begin(), weights.end())](
                               Tape& t, std::span<const Tensor> grads) {
    const Rows r = rows_of(x);
    Tensor dx;
    for (size_t i = 0; i < ws.size(); ++i) {
      if (!grads[i].defined()) continue;
      add_weight_gradient(t.context(), r, x, *ws[i], grads[i]);
      if (!t.wants(x)) continue;
      const bool first = !dx.defined();
      if (first) dx = Tensor::empty(t.context(), {r.rows, r.cols});
      input_gradient(t.context(), r, *ws[i], grads[i], first ? 0 : 1, dx);
    }
    if (dx.defined()) t.add(x, dx.reshape(x.shape()));
  });
  return outputs;
}

Tensor linear_backward(const Context& ctx, const Tensor& x, Parameter& w, const Tensor& dy,
                       bool want_dx) {
  const Rows r = rows_of(x);
  add_weight_gradient(ctx, r, x, w, dy);
  if (!want_dx) return {};
  Tensor dx = Tensor::empty(ctx, {r.rows, r.cols});
  input_gradient(ctx, r, w, dy, 0, dx);
  return dx;
}

}  // namespace braid
