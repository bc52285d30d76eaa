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

using Unary = void (*)(const float* x, float* y, int64_t n);
using UnaryBackward = void (*)(const float* saved, const float* dy, float* dx, int64_t n);

// Binary ops whose backward needs both operands.
using Binary = void (*)(const float* a, const float* b, float* y, int64_t n);
using BinaryBackward = void (*)(const float* a, const float* b, const float* dy, float* da,
                                float* db, int64_t n);

Tensor unary(const Context& ctx, const Tensor& x, Unary forward, UnaryBackward backward,
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

Tensor binary(const Context& ctx, const Tensor& a, const Tensor& b, Binary forward,
              BinaryBackward backward) {
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
  const auto times = [by](const float* from, float* to, int64_t n) {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i] * by;
  };
  Tensor y = Tensor::empty(ctx, x.shape());
  each_row(ctx, times, x, y);
  if (Tape* tape = recording(ctx, {&x})) {
    tape->record(y, [x, times](Tape& t, const Tensor& dy) {
      Tensor dx = Tensor::empty(t.context(), x.shape());
      each_row(t.context(), times, dy, dx);
      t.add(x, dx);
    });
  }
  return y;
}

Tensor softcap(const Context& ctx, const Tensor& x, float cap) {
  const auto forward = [cap](const float* from, float* to, int64_t n) {
    softcap_f32(from, cap, to, n);
  };
  Tensor y = Tensor::empty(ctx, x.shape());
  each_row(ctx, forward, x, y);
  if (Tape* tape = recording(ctx, {&x})) {
    tape->record(y, [x, y, cap](Tape& t, const Tensor& dy) {
      Tensor dx = Tensor::empty(t.context(), x.shape());
      const auto back = [cap](const float* out, const float* up, float* into, int64_t n) {
        const float by = 1.0f / cap;
        for (int64_t i = 0; i < n; ++i) into[i] = up[i] * (1.0f - (out[i] * by) * (out[i] * by));
      };
      each_row(t.context(), back, y, dy, dx);
      t.add(x, dx);
    });
  }
  return y;
}

Tensor sigmoid(const Context& ctx, const Tensor& x) {
  return unary(ctx, x, sigmoid_f32, sigmoid_backward_f32, true);
}

Tensor silu(const Context& ctx, const Tensor& x) {
  return unary(ctx, x, silu_f32, silu_backward_f32, false);
}

Tensor silu_mul(const Context& ctx, const Tensor& gate, const Tensor& up) {
  return binary(ctx, gate, up, silu_mul_f32, silu_mul_backward_f32);
}

Tensor sigmoid_mul(const Context& ctx, const Tensor& x, const Tensor& gate) {
  return binary(ctx, x, gate, sigmoid_mul_f32, sigmoid_mul_backward_f32);
}

}  // namespace braid
