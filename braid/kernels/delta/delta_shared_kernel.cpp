#include "braid/kernels/delta/delta_shared_kernel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/delta/delta_shared_kernel.cpp"
#include <hwy/foreach_target.h>
// After foreach_target, which sets the target for what follows.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "braid/kernels/delta/delta_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {

void row_decays(int64_t count, const double* sums, float* e, float* inverse) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> df;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < count; i += lanes) {
    const auto x = hn::Exp(d, hn::LoadU(d, sums + i));
    hn::StoreU(hn::DemoteTo(df, x), df, e + i);
    hn::StoreU(hn::DemoteTo(df, hn::Div(hn::Set(d, 1.0), x)), df, inverse + i);
  }
}

void zero_above(int64_t n, float* s, int64_t ld) {
  for (int64_t i = 0; i < n * kBlock; ++i) {
    const int64_t begin = i / kBlock * kBlock;
    for (int64_t j = begin; j < begin + kBlock; j += kLanes) {
      const auto on = first_lanes(i - j + 1);
      store(hn::IfThenElseZero(on, load(s + i * ld + j)), s + i * ld + j);
    }
  }
}

void multiply_lower(int64_t n, const float* a, const float* b, int64_t ld, float* to) {
  for (int64_t i = 0; i < n * kBlock; ++i) {
    const int64_t end = i * ld + (i / kBlock + 1) * kBlock;
    for (int64_t j = i * ld; j < end; j += kLanes) store(hn::Mul(load(a + j), load(b + j)), to + j);
  }
}

void subtract_scaled(int64_t rows, int64_t cols, const float* factors, const float* y, float* u) {
  for (int64_t i = 0; i < rows; ++i) {
    const V f = all(factors[i]);
    for (int64_t e = i * cols; e < (i + 1) * cols; e += kLanes)
      store(hn::NegMulAdd(f, load(y + e), load(u + e)), u + e);
  }
}

void gate_scores(int64_t n, const float* gates, const float* s, const float* l, bool above,
                 int64_t ld, float* to) {
  for (int64_t i = 0; i < n * kBlock; ++i) {
    const V gate = all(gates == nullptr ? 1.0f : gates[i]);
    const float* decay = l == nullptr ? nullptr : l + (above && i > 0 ? i - 1 : i) * ld;
    for (int64_t j = 0; j < (i / kBlock + 1) * kBlock; j += kLanes) {
      // Masked before what lies right of the diagonal is multiplied: it may be anything.
      const auto below = first_lanes(i - j);
      V v = hn::Mul(hn::IfThenElseZero(below, load(s + i * ld + j)), gate);
      if (decay != nullptr) v = hn::Mul(v, hn::MaskedLoad(below, D(), decay + j));
      store(v, to + i * ld + j);
    }
  }
}

void score_sums(int64_t n, const float* s, const float* w, const float* gates, int64_t ld,
                float* sum, float* rows, float* columns) {
  for (int64_t i = 0; i < n * kBlock; ++i) {
    const V gate = all(gates == nullptr ? 1.0f : gates[i]);
    V total = hn::Zero(D());
    for (int64_t j = 0; j < (i / kBlock + 1) * kBlock; j += kLanes) {
      const int64_t at = i * ld + j;
      const V v = load(w + at);
      store(hn::MulAdd(gate, v, load(sum + at)), sum + at);
      const auto below = first_lanes(i - j);
      const V product = hn::IfThenElseZero(below, hn::Mul(v, load(s + at)));
      total = hn::Add(total, product);
      store(hn::MulAdd(gate, product, load(columns + j)), columns + j);
    }
    rows[i] = hn::GetLane(hn::SumOfLanes(D(), total));
  }
}

void column_dots(int64_t rows, int64_t cols, const float* a, const float* x, const float* gates,
                 int64_t ld, float* sum, float* dots) {
  for (int64_t i = 0; i < cols; i += kLanes) {
    const V gate = gates == nullptr ? all(1.0f) : load(gates + i);
    V even = hn::Zero(D()), odd = hn::Zero(D());
    for (int64_t r = 0; r < rows; r += 2) {
      const int64_t at = r * ld + i;
      const V v0 = load(x + at), v1 = load(x + at + ld);
      even = hn::MulAdd(load(a + at), v0, even);
      odd = hn::MulAdd(load(a + at + ld), v1, odd);
      store(hn::MulAdd(gate, v0, load(sum + at)), sum + at);
      store(hn::MulAdd(gate, v1, load(sum + at + ld)), sum + at + ld);
    }
    store(hn::Add(even, odd), dots + i);
  }
}

double dot(int64_t count, const float* a, const float* b) {
  V s0 = hn::Zero(D()), s1 = s0, s2 = s0, s3 = s0;
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    s0 = hn::MulAdd(load(a + i), load(b + i), s0);
    s1 = hn::MulAdd(load(a + i + kLanes), load(b + i + kLanes), s1);
    s2 = hn::MulAdd(load(a + i + 2 * kLanes), load(b + i + 2 * kLanes), s2);
    s3 = hn::MulAdd(load(a + i + 3 * kLanes), load(b + i + 3 * kLanes), s3);
  }
  for (; i < count; i += kLanes) s0 = hn::MulAdd(load(a + i), load(b + i), s0);
  return hn::GetLane(hn::SumOfLanes(D(), hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(row_decays);
HWY_EXPORT(zero_above);
HWY_EXPORT(multiply_lower);
HWY_EXPORT(subtract_scaled);
HWY_EXPORT(gate_scores);
HWY_EXPORT(score_sums);
HWY_EXPORT(column_dots);
HWY_EXPORT(dot);

void delta_row_decays(int64_t count, const double* sums, float* e, float* inverse) {
  HWY_DYNAMIC_DISPATCH(row_decays)(count, sums, e, inverse);
}

void delta_zero_above(int64_t n, float* s, int64_t ld) {
  HWY_DYNAMIC_DISPATCH(zero_above)(n, s, ld);
}

void delta_multiply_lower(int64_t n, const float* a, const float* b, int64_t ld, float* to) {
  HWY_DYNAMIC_DISPATCH(multiply_lower)(n, a, b, ld, to);
}

void delta_subtract_scaled(int64_t rows, int64_t cols, const float* factors, const float* y,
                           float* u) {
  HWY_DYNAMIC_DISPATCH(subtract_scaled)(rows, cols, factors, y, u);
}

void delta_gate_scores(int64_t n, const float* gates, const float* s, const float* l, bool above,
                       int64_t ld, float* to) {
  HWY_DYNAMIC_DISPATCH(gate_scores)(n, gates, s, l, above, ld, to);
}

void delta_score_sums(int64_t n, const float* s, const float* w, const float* gates, int64_t ld,
                      float* sum, float* rows, float* columns) {
  HWY_DYNAMIC_DISPATCH(score_sums)(n, s, w, gates, ld, sum, rows, columns);
}

void delta_column_dots(int64_t rows, int64_t cols, const float* a, const float* x,
                       const float* gates, int64_t ld, float* sum, float* dots) {
  HWY_DYNAMIC_DISPATCH(column_dots)(rows, cols, a, x, gates, ld, sum, dots);
}

double delta_dot(int64_t count, const float* a, const float* b) {
  return HWY_DYNAMIC_DISPATCH(dot)(count, a, b);
}

}  // namespace braid
#endif
