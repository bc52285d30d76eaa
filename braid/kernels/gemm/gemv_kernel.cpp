#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/gemm/gemv_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "braid/kernels/gemm/gemm.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// One row after the other: W is then read as a single stream, which is what memory serves fastest
// (rows side by side measured 0.83 of the read bandwidth, this 0.95). Four sums hide the latency of
// the multiply-adds.
float dot(const float* HWY_RESTRICT w, const float* HWY_RESTRICT x, int64_t k) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  int64_t i = 0;
  for (; i + 4 * lanes <= k; i += 4 * lanes) {
    s0 = hn::MulAdd(hn::LoadU(d, w + i), hn::LoadU(d, x + i), s0);
    s1 = hn::MulAdd(hn::LoadU(d, w + i + lanes), hn::LoadU(d, x + i + lanes), s1);
    s2 = hn::MulAdd(hn::LoadU(d, w + i + 2 * lanes), hn::LoadU(d, x + i + 2 * lanes), s2);
    s3 = hn::MulAdd(hn::LoadU(d, w + i + 3 * lanes), hn::LoadU(d, x + i + 3 * lanes), s3);
  }
  for (; i + lanes <= k; i += lanes) s0 = hn::MulAdd(hn::LoadU(d, w + i), hn::LoadU(d, x + i), s0);
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  for (; i < k; ++i) sum += w[i] * x[i];
  return sum;
}

void gemv(const float* w, int64_t ldw, int64_t k, const float* x, float* y, int64_t begin,
          int64_t end) {
  for (int64_t n = begin; n < end; ++n) y[n] = dot(w + n * ldw, x, k);
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
