#include "braid/kernels/delta/delta_shared_kernel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/delta/delta_shared_kernel.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
// After foreach_target, which sets the target for what follows.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <algorithm>

#include "braid/kernels/delta/delta_tile.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // other kernel files have functions of the same names

namespace hn = hwy::HWY_NAMESPACE;
constexpr int64_t kBlock = kDeltaBlock;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));

HWY_INLINE V load(const float* p) { return hn::LoadU(D(), p); }
HWY_INLINE void store(V v, float* p) { hn::StoreU(v, D(), p); }
HWY_INLINE V all(float x) { return hn::Set(D(), x); }
HWY_INLINE hn::Mask<D> first_lanes(int64_t count) {
  return hn::FirstN(D(), static_cast<size_t>(count));
}

void take_rows(DeltaRows<const float> from, DeltaRows<const float> w, int64_t first, int64_t rows,
               int64_t padded, int64_t count, int64_t ld, const float* factors, float* to) {
  const int64_t whole = count / kLanes * kLanes;
  for (int64_t i = 0; i < rows; ++i, to += ld) {
    const float* x = from[first + i];
    const float* gate = w ? w[first + i] : nullptr;
    const V f = all(factors[i]);
    for (int64_t c = 0; c < whole; c += kLanes) {
      V v = hn::Mul(load(x + c), f);
      if (gate != nullptr) v = hn::Mul(v, load(gate + c));
      store(v, to + c);
    }
    if (whole == ld) continue;
    const auto some = first_lanes(count - whole);
    V v = hn::Mul(hn::MaskedLoad(some, D(), x + whole), f);
    if (gate != nullptr) v = hn::Mul(v, hn::MaskedLoad(some, D(), gate + whole));
    store(v, to + whole);
    for (int64_t c = whole + kLanes; c < ld; c += kLanes) store(hn::Zero(D()), to + c);
  }
  std::fill_n(to, (padded - rows) * ld, 0.0f);
}

void give_rows(const float* y, int64_t ld, int64_t rows, int64_t count, const float* factors,
               DeltaRows<float> to, int64_t first, bool stream) {
  const int64_t whole = count / kLanes * kLanes;
  for (int64_t i = 0; i < rows; ++i, y += ld) {
    float* row = to[first + i];
    const V f = all(factors == nullptr ? 1.0f : factors[i]);
    if (stream && reinterpret_cast<uintptr_t>(row) % sizeof(V) == 0) {
      for (int64_t c = 0; c < whole; c += kLanes) hn::Stream(hn::Mul(load(y + c), f), D(), row + c);
    } else {
      for (int64_t c = 0; c < whole; c += kLanes) store(hn::Mul(load(y + c), f), row + c);
    }
    if (whole < count) {
      hn::BlendedStore(hn::Mul(load(y + whole), f), first_lanes(count - whole), D(), row + whole);
    }
  }
}

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

void copy_scaled(int64_t count, float factor, const float* x, float* to, bool stream) {
  const V f = all(factor);
  const bool past = stream && reinterpret_cast<uintptr_t>(to) % sizeof(V) == 0;
  int64_t i = 0;
  for (; past && i + kLanes <= count; i += kLanes) hn::Stream(hn::Mul(load(x + i), f), D(), to + i);
  for (; i + kLanes <= count; i += kLanes) store(hn::Mul(load(x + i), f), to + i);
  for (; i < count; ++i) to[i] = factor * x[i];
}

void scale_all(int64_t count, float factor, float* x) {
  const V f = all(factor);
  for (int64_t i = 0; i < count; i += kLanes) store(hn::Mul(load(x + i), f), x + i);
}

void zero_above(int64_t n, float* s, int64_t ld) {
  for (int64_t i = 0; i < n * kBlock; ++i) {
    const int64_t begin = i / kBlock * kBlock;
    for (int64_t j = begin; j < begin + kBlock; j += kLanes) {
      const auto on = first_lanes(std::clamp<int64_t>(i - j + 1, 0, kLanes));
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
      const auto below = first_lanes(std::clamp<int64_t>(i - j, 0, kLanes));
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
      const auto below = first_lanes(std::clamp<int64_t>(i - j, 0, kLanes));
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

HWY_EXPORT(take_rows);
HWY_EXPORT(give_rows);
HWY_EXPORT(row_decays);
HWY_EXPORT(copy_scaled);
HWY_EXPORT(scale_all);
HWY_EXPORT(zero_above);
HWY_EXPORT(multiply_lower);
HWY_EXPORT(subtract_scaled);
HWY_EXPORT(gate_scores);
HWY_EXPORT(score_sums);
HWY_EXPORT(column_dots);
HWY_EXPORT(dot);

void delta_take_rows(DeltaRows<const float> from, DeltaRows<const float> w, int64_t first,
                     int64_t rows, int64_t padded, int64_t count, int64_t ld, const float* factors,
                     float* to) {
  HWY_DYNAMIC_DISPATCH(take_rows)(from, w, first, rows, padded, count, ld, factors, to);
}

void delta_give_rows(const float* y, int64_t ld, int64_t rows, int64_t count, const float* factors,
                     DeltaRows<float> to, int64_t first, bool stream) {
  HWY_DYNAMIC_DISPATCH(give_rows)(y, ld, rows, count, factors, to, first, stream);
}

void delta_row_decays(int64_t count, const double* sums, float* e, float* inverse) {
  HWY_DYNAMIC_DISPATCH(row_decays)(count, sums, e, inverse);
}

void delta_copy_scaled(int64_t count, float factor, const float* x, float* to, bool stream) {
  HWY_DYNAMIC_DISPATCH(copy_scaled)(count, factor, x, to, stream);
}

void delta_scale_all(int64_t count, float factor, float* x) {
  HWY_DYNAMIC_DISPATCH(scale_all)(count, factor, x);
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
