#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/norm/rms_norm_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "braid/kernels/norm/rms_norm.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;

void rms_norm(const float* x, int64_t ldx, const float* w, float add, float eps, int64_t rows,
              int64_t n, float* y, int64_t ldy, float* rstd) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < rows; ++r, x += ldx, y += ldy) {
    auto s0 = hn::Zero(d), s1 = hn::Zero(d);
    int64_t i = 0;
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
      const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + lanes);
      s0 = hn::MulAdd(a, a, s0);
      s1 = hn::MulAdd(b, b, s1);
    }
    float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
    for (; i < n; ++i) sum += x[i] * x[i];
    const float rs = 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
    rstd[r] = rs;
    const auto scale = hn::Set(d, rs), plus = hn::Set(d, add);
    for (i = 0; i + lanes <= n; i += lanes) {
      const auto gain = hn::Add(hn::LoadU(d, w + i), plus);
      hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), scale), gain), d, y + i);
    }
    for (; i < n; ++i) y[i] = x[i] * rs * (w[i] + add);
  }
}

// With xh = x rstd and h = dy (w + add): dx = rstd (h - xh mean(h xh)), dw += dy xh.
void rms_norm_backward(const float* x, int64_t ldx, const float* w, float add, const float* rstd,
                       const float* dy, int64_t ldy, int64_t rows, int64_t n, float* dx,
                       int64_t lddx, float* dw) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto plus = hn::Set(d, add);
  for (int64_t r = 0; r < rows; ++r, x += ldx, dy += ldy, dx += lddx) {
    const float rs = rstd[r];
    const auto scale = hn::Set(d, rs);
    auto dot = hn::Zero(d);
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      const auto xh = hn::Mul(hn::LoadU(d, x + i), scale), g = hn::LoadU(d, dy + i);
      hn::StoreU(hn::MulAdd(g, xh, hn::LoadU(d, dw + i)), d, dw + i);
      dot = hn::MulAdd(hn::Mul(g, hn::Add(hn::LoadU(d, w + i), plus)), xh, dot);
    }
    float sum = hn::GetLane(hn::SumOfLanes(d, dot));
    for (; i < n; ++i) {
      const float xh = x[i] * rs;
      dw[i] += dy[i] * xh;
      sum += dy[i] * (w[i] + add) * xh;
    }
    const float mean = sum / static_cast<float>(n);
    const auto m = hn::Set(d, mean);
    for (i = 0; i + lanes <= n; i += lanes) {
      const auto xh = hn::Mul(hn::LoadU(d, x + i), scale);
      const auto h = hn::Mul(hn::LoadU(d, dy + i), hn::Add(hn::LoadU(d, w + i), plus));
      hn::StoreU(hn::Mul(scale, hn::NegMulAdd(xh, m, h)), d, dx + i);
    }
    for (; i < n; ++i) dx[i] = rs * (dy[i] * (w[i] + add) - x[i] * rs * mean);
  }
}

}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(rms_norm);
HWY_EXPORT(rms_norm_backward);

void rms_norm_f32(const float* x, int64_t ldx, const float* w, float add, float eps, int64_t rows,
                  int64_t d, float* y, int64_t ldy, float* rstd) {
  HWY_DYNAMIC_DISPATCH(rms_norm)(x, ldx, w, add, eps, rows, d, y, ldy, rstd);
}

void rms_norm_backward_f32(const float* x, int64_t ldx, const float* w, float add,
                           const float* rstd, const float* dy, int64_t ldy, int64_t rows, int64_t d,
                           float* dx, int64_t lddx, float* dw) {
  HWY_DYNAMIC_DISPATCH(rms_norm_backward)(x, ldx, w, add, rstd, dy, ldy, rows, d, dx, lddx, dw);
}

}  // namespace braid
#endif
