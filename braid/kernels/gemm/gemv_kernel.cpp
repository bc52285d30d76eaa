#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/gemm/gemv_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "braid/kernels/gemm/gemm.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Four rows at once share the loads of x and keep four streams in flight, which memory bandwidth
// needs.
template <int kRows>
void gemv_rows(const float* HWY_RESTRICT w, int64_t ldw, int64_t k, const float* HWY_RESTRICT x,
               float* HWY_RESTRICT y) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  int64_t i = 0;
  for (; i + 2 * lanes <= k; i += 2 * lanes) {
    const auto xa = hn::LoadU(d, x + i), xb = hn::LoadU(d, x + i + lanes);
    s0 = hn::MulAdd(hn::LoadU(d, w + i), xa, s0);
    t0 = hn::MulAdd(hn::LoadU(d, w + i + lanes), xb, t0);
    if constexpr (kRows == 4) {
      s1 = hn::MulAdd(hn::LoadU(d, w + ldw + i), xa, s1);
      t1 = hn::MulAdd(hn::LoadU(d, w + ldw + i + lanes), xb, t1);
      s2 = hn::MulAdd(hn::LoadU(d, w + 2 * ldw + i), xa, s2);
      t2 = hn::MulAdd(hn::LoadU(d, w + 2 * ldw + i + lanes), xb, t2);
      s3 = hn::MulAdd(hn::LoadU(d, w + 3 * ldw + i), xa, s3);
      t3 = hn::MulAdd(hn::LoadU(d, w + 3 * ldw + i + lanes), xb, t3);
    }
  }
  float r0 = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, t0)));
  float r1 = hn::GetLane(hn::SumOfLanes(d, hn::Add(s1, t1)));
  float r2 = hn::GetLane(hn::SumOfLanes(d, hn::Add(s2, t2)));
  float r3 = hn::GetLane(hn::SumOfLanes(d, hn::Add(s3, t3)));
  for (; i < k; ++i) {
    r0 += w[i] * x[i];
    if constexpr (kRows == 4) {
      r1 += w[ldw + i] * x[i];
      r2 += w[2 * ldw + i] * x[i];
      r3 += w[3 * ldw + i] * x[i];
    }
  }
  y[0] = r0;
  if constexpr (kRows == 4) {
    y[1] = r1;
    y[2] = r2;
    y[3] = r3;
  }
}

void gemv(const float* w, int64_t ldw, int64_t k, const float* x, float* y, int64_t begin,
          int64_t end) {
  int64_t n = begin;
  for (; n + 4 <= end; n += 4) gemv_rows<4>(w + n * ldw, ldw, k, x, y + n);
  for (; n < end; ++n) gemv_rows<1>(w + n * ldw, ldw, k, x, y + n);
}

}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(gemv);

void gemv_f32(const float* w, int64_t ldw, int64_t k, const float* x, float* y, int64_t begin,
              int64_t end) {
  HWY_DYNAMIC_DISPATCH(gemv)(w, ldw, k, x, y, begin, end);
}

}  // namespace braid
#endif
