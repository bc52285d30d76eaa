#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/delta/delta_rows_kernel.cpp"
#include <hwy/foreach_target.h>
// After foreach_target, which sets the target for what follows.
#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "braid/kernels/delta/delta_rows.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));

HWY_INLINE hn::Mask<D> first(int64_t count) { return hn::FirstN(D(), static_cast<size_t>(count)); }

template <bool kPartial>
HWY_INLINE V load(const float* p, int64_t count) {
  return kPartial ? hn::MaskedLoad(first(count), D(), p) : hn::LoadU(D(), p);
}

template <bool kPartial>
HWY_INLINE void put_vector(V v, float* to, int64_t count, DeltaPut put) {
  if (put == DeltaPut::kAdd) v = hn::Add(load<kPartial>(to, count), v);
  if (kPartial) {
    hn::BlendedStore(v, first(count), D(), to);
  } else if (put == DeltaPut::kStream && reinterpret_cast<uintptr_t>(to) % sizeof(V) == 0) {
    hn::Stream(v, D(), to);
  } else {
    hn::StoreU(v, D(), to);
  }
}

template <bool kPartial>
HWY_INLINE V keys_at(const DeltaKeyRow& r, int64_t d, int64_t count, DeltaPut put, V sum) {
  const V k = hn::LoadU(D(), r.k + d), diagonal = hn::Set(D(), r.diagonal);
  V dk = hn::Add(hn::LoadU(D(), r.dk + d), hn::LoadU(D(), r.dk_state + d));
  dk = hn::MulAdd(diagonal, hn::LoadU(D(), r.q + d), dk);
  if (r.dr != nullptr) {
    const V dr = hn::LoadU(D(), r.dr + d);
    const V factor = r.b != nullptr ? load<kPartial>(r.b + d, count) : hn::Set(D(), r.beta);
    dk = hn::MulAdd(factor, dr, dk);
    if (r.dot != nullptr) sum = hn::MulAdd(load<kPartial>(r.dot + d, count), dr, sum);
    if (r.to_b != nullptr) put_vector<kPartial>(hn::Mul(k, dr), r.to_b + d, count, put);
    if (r.to_p != nullptr) {
      put_vector<kPartial>(hn::Mul(hn::Set(D(), r.beta_p), dr), r.to_p + d, count, put);
    }
  }
  if (r.to_k != nullptr) put_vector<kPartial>(dk, r.to_k + d, count, put);
  if (r.to_q != nullptr) {
    const V dq = hn::MulAdd(diagonal, k, hn::LoadU(D(), r.dq + d));
    put_vector<kPartial>(hn::Mul(hn::Set(D(), r.scale), dq), r.to_q + d, count, put);
  }
  return sum;
}

float put_keys(int64_t count, const DeltaKeyRow& r, DeltaPut put) {
  V sum = hn::Zero(D());
  int64_t d = 0;
  for (; d + kLanes <= count; d += kLanes) sum = keys_at<false>(r, d, kLanes, put, sum);
  if (d < count) sum = keys_at<true>(r, d, count - d, put, sum);
  return hn::GetLane(hn::SumOfLanes(D(), sum));
}

template <bool kPartial>
HWY_INLINE V values_at(const DeltaValueRow& r, int64_t e, int64_t count, DeltaPut put, V sum) {
  const V dx = hn::LoadU(D(), r.dx + e), v = load<kPartial>(r.v + e, count);
  const V scaled = hn::Mul(hn::Set(D(), r.factor), dx);
  if (r.to_v != nullptr) {
    const V dv = r.w != nullptr ? hn::Mul(load<kPartial>(r.w + e, count), scaled) : scaled;
    put_vector<kPartial>(dv, r.to_v + e, count, put);
  }
  if (r.to_w != nullptr) put_vector<kPartial>(hn::Mul(v, scaled), r.to_w + e, count, put);
  return hn::MulAdd(v, dx, sum);
}

float put_values(int64_t count, const DeltaValueRow& r, DeltaPut put) {
  V sum = hn::Zero(D());
  int64_t e = 0;
  for (; e + kLanes <= count; e += kLanes) sum = values_at<false>(r, e, kLanes, put, sum);
  if (e < count) sum = values_at<true>(r, e, count - e, put, sum);
  return hn::GetLane(hn::SumOfLanes(D(), sum));
}

void put_row(int64_t count, const float* from, float* to, DeltaPut put) {
  int64_t d = 0;
  for (; d + kLanes <= count; d += kLanes) {
    put_vector<false>(hn::LoadU(D(), from + d), to + d, kLanes, put);
  }
  if (d < count) {
    put_vector<true>(load<true>(from + d, count - d), to + d, count - d, put);
  }
}

}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(put_keys);
HWY_EXPORT(put_values);
HWY_EXPORT(put_row);

float delta_put_keys(int64_t count, const DeltaKeyRow& row, DeltaPut put) {
  return HWY_DYNAMIC_DISPATCH(put_keys)(count, row, put);
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
