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

// Four sums hide the latency of the multiply-adds.
struct Sums {
  hn::Vec<D> s0, s1, s2, s3;
};

// Adds what the vectors of four leave of a row, from column i on.
template <typename W>
float total(const W* HWY_RESTRICT w, const float* HWY_RESTRICT x, int64_t i, int64_t k, Sums s) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (; i + lanes <= k; i += lanes) s.s0 = hn::MulAdd(load(d, w + i), hn::LoadU(d, x + i), s.s0);
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s.s0, s.s1), hn::Add(s.s2, s.s3))));
  for (; i < k; ++i) sum += one(w + i) * x[i];
  return sum;
}

// y of rows 0, step, 2 step ... (R of them). A row's sums do not depend on R.
template <int R, typename W>
HWY_INLINE void dots(const W* HWY_RESTRICT w, int64_t ldw, int64_t k, const float* HWY_RESTRICT x,
                     float* y, int64_t step) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto zero = hn::Zero(d);
  Sums sums[R];
  for (Sums& s : sums) s = {zero, zero, zero, zero};
  int64_t i = 0;
  for (; i + 4 * lanes <= k; i += 4 * lanes) {
    const auto x0 = hn::LoadU(d, x + i), x1 = hn::LoadU(d, x + i + lanes);
    const auto x2 = hn::LoadU(d, x + i + 2 * lanes), x3 = hn::LoadU(d, x + i + 3 * lanes);
    for (int r = 0; r < R; ++r) {
      const W* at = w + r * step * ldw + i;
      const Two a = load_two(d, at), b = load_two(d, at + 2 * lanes);
      Sums& s = sums[r];
      s = {hn::MulAdd(a.first, x0, s.s0), hn::MulAdd(a.second, x1, s.s1),
           hn::MulAdd(b.first, x2, s.s2), hn::MulAdd(b.second, x3, s.s3)};
    }
  }
  for (int r = 0; r < R; ++r) y[r * step] = total(w + r * step * ldw, x, i, k, sums[r]);
}

constexpr int kStreams = HWY_MAX_BYTES >= 64 ? 4 : 2;  // as many as there are registers for
constexpr int64_t kStaysBytes = int64_t{20} << 10;     // of a row and x, in a first cache of 32 KiB

// One row after the other: W is then read as a single stream, which is what memory serves fastest
// (neighbouring rows side by side measured 0.83 of the read bandwidth, this 0.95). Where x does not
// outlive a row in the first cache, as a few streams far apart, for which x is fetched once. Shares
// of the read bandwidth of a core of Zen 4 with 6144 columns, f32 and bf16: one stream 0.66, 0.42;
// four 0.93, 0.72; four neighbouring rows 0.83, 0.61; columns in slices 0.46, 0.4.
template <typename W>
void gemv(const W* w, int64_t ldw, int64_t k, const float* x, float* y, int64_t begin,
          int64_t end) {
  const bool stays = k * static_cast<int64_t>(sizeof(float) + sizeof(W)) <= kStaysBytes;
  const int64_t step = stays ? 0 : (end - begin) / kStreams;
  for (int64_t n = begin; n < begin + step; ++n) {
    dots<kStreams>(w + n * ldw, ldw, k, x, y + n, step);
  }
  for (int64_t n = begin + kStreams * step; n < end; ++n) dots<1>(w + n * ldw, ldw, k, x, y + n, 0);
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
