#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/gemm/gemv_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "braid/kernels/gemm/gemm.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// A vector of W in f32. bf16 lanes stay in order, so that both types are summed alike.
using D = hn::ScalableTag<float>;
using D16 = hn::Rebind<uint16_t, D>;

hn::Vec<D> widened(D d, hn::Vec<D16> bits) {
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(hn::Rebind<uint32_t, D>(), bits)));
}

hn::Vec<D> load(D d, const float* HWY_RESTRICT w) { return hn::LoadU(d, w); }
hn::Vec<D> load(D d, const uint16_t* HWY_RESTRICT w) { return widened(d, hn::LoadU(D16(), w)); }

struct Two {
  hn::Vec<D> first, second;
};

Two load_two(D d, const float* HWY_RESTRICT w) { return {load(d, w), load(d, w + hn::Lanes(d))}; }

// With one load: half lines are fetched ahead badly (0.73 of the read bandwidth of a core of Zen 4
// in place of 0.95).
Two load_two(D d, const uint16_t* HWY_RESTRICT w) {
  const hn::Twice<D16> all;
  const auto bits = hn::LoadU(all, w);
  return {widened(d, hn::LowerHalf(D16(), bits)), widened(d, hn::UpperHalf(D16(), bits))};
}

float one(const float* w) { return *w; }

float one(const uint16_t* w) {
  const uint32_t bits = static_cast<uint32_t>(*w) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// One row after the other: W is then read as a single stream, which is what memory serves fastest
// (rows side by side measured 0.83 of the read bandwidth, this 0.95). Four sums hide the latency of
// the multiply-adds.
template <typename W>
float dot(const W* HWY_RESTRICT w, const float* HWY_RESTRICT x, int64_t k) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  int64_t i = 0;
  for (; i + 4 * lanes <= k; i += 4 * lanes) {
    const Two a = load_two(d, w + i), b = load_two(d, w + i + 2 * lanes);
    s0 = hn::MulAdd(a.first, hn::LoadU(d, x + i), s0);
    s1 = hn::MulAdd(a.second, hn::LoadU(d, x + i + lanes), s1);
    s2 = hn::MulAdd(b.first, hn::LoadU(d, x + i + 2 * lanes), s2);
    s3 = hn::MulAdd(b.second, hn::LoadU(d, x + i + 3 * lanes), s3);
  }
  for (; i + lanes <= k; i += lanes) s0 = hn::MulAdd(load(d, w + i), hn::LoadU(d, x + i), s0);
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  for (; i < k; ++i) sum += one(w + i) * x[i];
  return sum;
}

template <typename W>
void gemv(const W* w, int64_t ldw, int64_t k, const float* x, float* y, int64_t begin,
          int64_t end) {
  for (int64_t n = begin; n < end; ++n) y[n] = dot(w + n * ldw, x, k);
}

void gemv_of_f32(const float* w, int64_t ldw, int64_t k, const float* x, float* y, int64_t begin,
                 int64_t end) {
  gemv(w, ldw, k, x, y, begin, end);
}

void gemv_of_bf16(const uint16_t* w, int64_t ldw, int64_t k, const float* x, float* y,
                  int64_t begin, int64_t end) {
  gemv(w, ldw, k, x, y, begin, end);
}

void widen(const uint16_t* HWY_RESTRICT x, int64_t n, float* HWY_RESTRICT out) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(load(d, x + i), d, out + i);
  for (; i < n; ++i) out[i] = one(x + i);
}

}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(gemv_of_f32);
HWY_EXPORT(gemv_of_bf16);
HWY_EXPORT(widen);

void gemv_f32(const float* w, int64_t ldw, int64_t k, const float* x, float* y, int64_t begin,
              int64_t end) {
  HWY_DYNAMIC_DISPATCH(gemv_of_f32)(w, ldw, k, x, y, begin, end);
}

void gemv_bf16(const uint16_t* w, int64_t ldw, int64_t k, const float* x, float* y, int64_t begin,
               int64_t end) {
  HWY_DYNAMIC_DISPATCH(gemv_of_bf16)(w, ldw, k, x, y, begin, end);
}

void widen_bf16(const uint16_t* x, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(widen)(x, n, out);
}

void narrow_to_bf16(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, sizeof bits);
    const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    bits = nan ? bits | 0x00400000u : bits + 0x7FFFu + (bits >> 16 & 1u);
    out[i] = static_cast<uint16_t>(bits >> 16);
  }
}

}  // namespace braid
#endif
