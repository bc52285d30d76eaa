#include "braid/layers/mixers/diff/difference.h"

#include <algorithm>
#include <cmath>

#include "braid/core/parallel.h"
#include "braid/ops/column_sums.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

// Rows per range: about 16k elements, and at most 64 ranges so that partial sums stay few.
int64_t grain_of(int64_t rows, int64_t columns) {
  return std::max<int64_t>({1, (1 << 14) / std::max<int64_t>(1, columns), (rows + 63) / 64});
}

// exp(a . b)
double exp_dot(const Parameter& a, const Parameter& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.value.count(); ++i)
    sum += static_cast<double>(a.value.data()[i]) * b.value.data()[i];
  return std::exp(sum);
}

float value_of(const Context& ctx, const Lambda& l) {
  if (ctx.dry()) return 0;
  return static_cast<float>(exp_dot(*l.q1, *l.k1) - exp_dot(*l.q2, *l.k2) + l.init);
}

// The gradient of exp(a . b), times `by`, into both vectors.
void add_exp_dot_gradient(Parameter& a, Parameter& b, double by) {
  const double slope = by * exp_dot(a, b);
  for (int64_t i = 0; i < a.value.count(); ++i) {
    if (a.grad.defined()) a.grad.data()[i] += static_cast<float>(slope * b.value.data()[i]);
    if (b.grad.defined()) b.grad.data()[i] += static_cast<float>(slope * a.value.data()[i]);
  }
}

Tensor gather_pairs(const Context& ctx, const Tensor& d_y) {
  const int64_t rows = d_y.size(0) * d_y.size(1), d = d_y.size(2) / 2;
  Tensor d_q = Tensor::empty(ctx, {d_y.size(0), d_y.size(1), d});
  parallel_for(ctx, rows, grain_of(rows, d), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* from = d_y.data() + r * 2 * d + r % 2 * d;
      std::copy(from, from + d, d_q.data() + r * d);
    }
  });
  return d_q;
}

}  // namespace

Tensor spread_pairs(const Context& ctx, const Tensor& q) {
  BRAID_CHECK(q.rank() == 3 && q.size(1) % 2 == 0);
  const int64_t heads = q.size(1), d = q.size(2), stride = rows_of(q).stride;
  Tensor y = Tensor::empty(ctx, {q.size(0), heads, 2 * d});
  parallel_for(ctx, q.size(0), grain_of(q.size(0), heads * d), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin * heads; r < end * heads; ++r) {
      const float* from = q.data() + r / heads * stride + r % heads * d;
      float* to = y.data() + r * 2 * d;
      std::fill(to, to + 2 * d, 0.0f);
      std::copy(from, from + d, to + r % 2 * d);
    }
  });
  if (Tape* tape = recording(ctx, {&q})) {
    tape->record(y, [q](Tape& t, const Tensor& d_y) { t.add(q, gather_pairs(t.context(), d_y)); });
  }
  return y;
}

Tensor pair_difference(const Context& ctx, const Tensor& o, const Lambda& lambda) {
  BRAID_CHECK(o.rank() == 3 && o.contiguous() && o.size(1) % 2 == 0);
  const int64_t rows = o.size(0) * o.size(1) / 2, n = o.size(2);
  Tensor y = Tensor::empty(ctx, {o.size(0), o.size(1) / 2, n});
  const float by = value_of(ctx, lambda);
  parallel_for(ctx, rows, grain_of(rows, n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float *first = o.data() + 2 * r * n, *second = first + n;
      for (int64_t i = 0; i < n; ++i) y.data()[r * n + i] = first[i] - by * second[i];
    }
  });
  if (Tape* tape = recording(ctx, {&o}, lambda.trains())) {
    tape->record(y, [o, lambda](Tape& t, const Tensor& d_y) {
      t.add(o, pair_difference_backward(t.context(), o, lambda, d_y));
    });
  }
  return y;
}

Tensor pair_difference_backward(const Context& ctx, const Tensor& o, const Lambda& lambda,
                                const Tensor& d_y) {
  const int64_t rows = o.size(0) * o.size(1) / 2, n = o.size(2), grain = grain_of(rows, n);
  Tensor d_o = Tensor::empty(ctx, o.shape());
  const float by = value_of(ctx, lambda);
  const ColumnSums sums(ctx, rows, grain, 1);
  parallel_for(ctx, rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float *second = o.data() + (2 * r + 1) * n, *g = d_y.data() + r * n;
      float *first_grad = d_o.data() + 2 * r * n, *second_grad = first_grad + n;
      float dot = 0;
      for (int64_t i = 0; i < n; ++i) {
        first_grad[i] = g[i];
        second_grad[i] = -by * g[i];
        dot += g[i] * second[i];
      }
      *sums.range(begin) -= dot;
    }
  });
  if (!lambda.trains()) return d_o;
  const Tensor d_lambda = Tensor::zeros(ctx, {1});
  sums.add_to(ctx, d_lambda);
  if (ctx.dry()) return d_o;
  add_exp_dot_gradient(*lambda.q1, *lambda.k1, *d_lambda.data());
  add_exp_dot_gradient(*lambda.q2, *lambda.k2, -*d_lambda.data());
  return d_o;
}

}  // namespace braid
