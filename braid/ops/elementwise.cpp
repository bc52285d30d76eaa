#include "braid/ops/elementwise.h"

#include "braid/core/parallel.h"
#include "braid/kernels/activation/activation.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

constexpr int64_t kGrainElements = 1 << 14;

int64_t row_grain(int64_t cols) {
  return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, cols));
}

// f(pointers..., n) over every row of tensors that share a shape.
template <typename F, typename... T>
void each_row(const Context& ctx, F f, const T&... tensors) {
  const Tensor& first = std::get<0>(std::tie(tensors...));
  if ((... && tensors.contiguous())) {  // one long row, cut anywhere
    parallel_for(ctx, first.count(), kGrainElements,
                 [&](int64_t begin, int64_t end) { f((tensors.data() + begin)..., end - begin); });
    return;
  }
  const Rows r = rows_of(first);
  parallel_for(ctx, r.rows, row_grain(r.cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      f((tensors.data() + i * rows_of(tensors).stride)..., r.cols);
  });
}

// forward(x, y, n), backward(saved, dy, dx, n)
template <class Forward, class Backward>
Tensor unary(const Context& ctx, const Tensor& x, Forward forward, Backward backward,
             bool keep_output) {
  Tensor y = Tensor::empty(ctx, x.shape());
  each_row(ctx, forward, x, y);
  if (Tape* tape = recording(ctx, {&x})) {
    Tensor saved = keep_output ? y : x;
    tape->record(y, [x, saved, backward](Tape& t, const Tensor& dy) {
      Tensor dx = Tensor::empty(t.context(), x.shape());
      each_row(t.context(), backward, saved, dy, dx);
      t.add(x, dx);
    });
  }
  return y;
}

// forward(a, b, y, n), backward(a, b, dy, da, db, n)
template <class Forward, class Backward>
Tensor binary(const Context& ctx, const Tensor& a, const Tensor& b, Forward forward,
              Backward backward) {
  BRAID_CHECK(a.shape() == b.shape());
  Tensor y = Tensor::empty(ctx, a.shape());
  each_row(ctx, forward, a, b, y);
  if (Tape* tape = recording(ctx, {&a, &b})) {
    tape->record(y, [a, b, backward](Tape& t, const Tensor& dy) {
      Tensor da = Tensor::empty(t.context(), a.shape()), db = Tensor::empty(t.context(), b.shape());
      each_row(t.context(), backward, a, b, dy, da, db);
      t.add(a, da);
      t.add(b, db);
    });
  }
  return y;
}

void add_n(const float* a, const float* b, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}

void mul_n(const float* a, const float* b, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] * b[i];
}

void mul_backward_n(const float* a, const float* b, const float* dy, float* da, float* db,
                    int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = dy[i], av = a[i], bv = b[i];
    da[i] = g * bv;
    db[i] = g * av;
  }
}

void copy_n(const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i];
}

}  // namespace

Tensor add(const Context& ctx, const Tensor& a, const Tensor& b) {
  BRAID_CHECK(a.shape() == b.shape());
  Tensor y = Tensor::empty(ctx, a.shape());
  each_row(ctx, add_n, a, b, y);
  if (Tape* tape = recording(ctx, {&a, &b})) {
    tape->record(y, [a, b](Tape& t, const Tensor& dy) {
      for (const Tensor* x : {&a, &b}) {
        if (!t.wants(*x)) continue;
        Tensor dx = Tensor::empty(t.context(), dy.shape());  // a copy: sums are made in place
        each_row(t.context(), copy_n, dy, dx);
        t.add(*x, dx);
      }
    });
  }
  return y;
}

Tensor mul(const Context& ctx, const Tensor& a, const Tensor& b) {
  return binary(ctx, a, b, mul_n, mul_backward_n);
}

Tensor scale(const Context& ctx, const Tensor& x, float by) {
  if (by == 1) return x;
  return unary(
      ctx, x,
      [by](const float* from, float* to, int64_t n) {
        for (int64_t i = 0; i < n; ++i) to[i] = from[i] * by;
      },
      [by](const float*, const float* dy, float* dx, int64_t n) {
        for (int64_t i = 0; i < n; ++i) dx[i] = dy[i] * by;
      },
      false);
}

Tensor scale_columns(const Context& ctx, const Tensor& x, const std::vector<float>& by) {
  BRAID_CHECK(x.rank() == 2 && std::ssize(by) == x.size(1));
  const auto scaled = [](const Context& c, const Tensor& from, const std::vector<float>& factors) {
    Tensor out = Tensor::empty(c, from.shape());
    const Rows r = rows_of(from);
    parallel_for(c, r.rows, row_grain(r.cols), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        mul_n(from.data() + i * r.stride, factors.data(), out.data() + i * r.cols, r.cols);
    });
    return out;
  };
  Tensor y = scaled(ctx, x, by);
  if (Tape* tape = recording(ctx, {&x})) {
    tape->record(
        y, [x, by, scaled](Tape& t, const Tensor& dy) { t.add(x, scaled(t.context(), dy, by)); });
  }
  return y;
}

Tensor softcap(const Context& ctx, const Tensor& x, float cap) {
  return unary(
      ctx, x, [cap](const float* from, float* to, int64_t n) { softcap_f32(from, cap, to, n); },
      [by = 1.0f / cap](const float* y, const float* dy, float* dx, int64_t n) {
        for (int64_t i = 0; i < n; ++i) dx[i] = dy[i] * (1.0f - (y[i] * by) * (y[i] * by));
      },
      true);
}

Tensor sigmoid(const Context& ctx, const Tensor& x) {
  return unary(ctx, x, sigmoid_f32, sigmoid_backward_f32, true);
}

Tensor silu(const Context& ctx, const Tensor& x) {
  return unary(ctx, x, silu_f32, silu_backward_f32, false);
}

Tensor activate(const Context& ctx, const Tensor& x, Act act) {
  BRAID_CHECK(act != Act::kClamped);
  return unary(
      ctx, x, [act](const float* from, float* to, int64_t n) { activate_f32(act, from, to, n); },
      [act](const float* from, const float* dy, float* dx, int64_t n) {
        activate_backward_f32(act, from, dy, dx, n);
      },
      false);
}

Tensor gated(const Context& ctx, const Tensor& gate, const Tensor& up, const Activation& act) {
  return binary(
      ctx, gate, up,
      [act](const float* g, const float* u, float* y, int64_t n) { gated_f32(act, g, u, y, n); },
      [act](const float* g, const float* u, const float* dy, float* dg, float* du, int64_t n) {
        gated_backward_f32(act, g, u, dy, dg, du, n);
      });
}

Tensor sigmoid_mul(const Context& ctx, const Tensor& x, const Tensor& gate) {
  return binary(ctx, x, gate, sigmoid_mul_f32, sigmoid_mul_backward_f32);
}

}  // namespace braid
