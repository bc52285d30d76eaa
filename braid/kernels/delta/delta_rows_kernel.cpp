#include "braid/kernels/delta/delta_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/delta/delta_rows_kernel.cpp"
#include <hwy/foreach_target.h>
// After foreach_target, which sets the target for what follows.
#include <hwy/highway.h>

#include "braid/kernels/delta/delta_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

namespace {

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

void copy_scaled(int64_t count, float factor, const float* x, float* to, bool stream) {
  const V f = all(factor);
  const bool past = stream && reinterpret_cast<uintptr_t>(to) % sizeof(V) == 0;
  int64_t i = 0;
  for (; past && i + kLanes <= count; i += kLanes) hn::Stream(hn::Mul(load(x + i), f), D(), to + i);
  for (; i + kLanes <= count; i += kLanes) store(hn::Mul(load(x + i), f), to + i);
  for (; i < count; ++i) to[i] = factor * x[i];
}

float put_values(int64_t count, const DeltaValueRow& r, DeltaPut how) {
  V sum = hn::Zero(D());
  for (int64_t e = 0; e < count; e += kLanes) {
    const int64_t some = count - e;
    const V dx = load(r.dx + e), v = load_some(r.v + e, some);
    const V scaled = hn::Mul(all(r.factor), dx);
    if (r.to_v != nullptr) {
      const V dv = r.w != nullptr ? hn::Mul(load_some(r.w + e, some), scaled) : scaled;
      put(dv, r.to_v + e, some, how);
    }
    if (r.to_w != nullptr) put(hn::Mul(v, scaled), r.to_w + e, some, how);
    sum = hn::MulAdd(v, dx, sum);
  }
  return hn::GetLane(hn::SumOfLanes(D(), sum));
}

void put_row(int64_t count, const float* from, float* to, DeltaPut how) {
  for (int64_t d = 0; d < count; d += kLanes)
    put(load_some(from + d, count - d), to + d, count - d, how);
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(take_rows);
HWY_EXPORT(give_rows);
HWY_EXPORT(copy_scaled);
HWY_EXPORT(put_values);
HWY_EXPORT(put_row);

void delta_take_rows(DeltaRows<const float> from, DeltaRows<const float> w, int64_t first,
                     int64_t rows, int64_t padded, int64_t count, int64_t ld, const float* factors,
                     float* to) {
  HWY_DYNAMIC_DISPATCH(take_rows)(from, w, first, rows, padded, count, ld, factors, to);
}

void delta_give_rows(const float* y, int64_t ld, int64_t rows, int64_t count, const float* factors,
                     DeltaRows<float> to, int64_t first, bool stream) {
  HWY_DYNAMIC_DISPATCH(give_rows)(y, ld, rows, count, factors, to, first, stream);
}

void delta_copy_scaled(int64_t count, float factor, const float* x, float* to, bool stream) {
  HWY_DYNAMIC_DISPATCH(copy_scaled)(count, factor, x, to, stream);
}

float delta_put_values(int64_t count, const DeltaValueRow& row, DeltaPut put) {
  return HWY_DYNAMIC_DISPATCH(put_values)(count, row, put);
}

void delta_put_row(int64_t count, const float* from, float* to, DeltaPut put) {
  HWY_DYNAMIC_DISPATCH(put_row)(count, from, to, put);
}

void delta_rows_done() { hwy::FlushStream(); }

}  // namespace braid
#endif
