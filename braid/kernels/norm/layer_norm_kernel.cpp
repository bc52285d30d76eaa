#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/norm/layer_norm_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "braid/kernels/norm/layer_norm.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;

// The sum over i of term(x + i), where term(p) gives a vector and term_of(v) a float.
template <class Term, class TermOf>
float sum_of(const float* x, int64_t n, const Term& term, const TermOf& term_of) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    s0 = hn::Add(s0, term(hn::LoadU(d, x + i)));
    s1 = hn::Add(s1, term(hn::LoadU(d, x + i + lanes)));
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
  for (; i < n; ++i) sum += term_of(x[i]);
  return sum;
}

void layer_norm(const float* x, int64_t ldx, const float* w, const float* b, float eps,
                int64_t rows, int64_t n, float* y, int64_t ldy, float* mean, float* rstd) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const float count = static_cast<float>(n);
  for (int64_t r = 0; r < rows; ++r, x += ldx, y += ldy) {
    const float mu = sum_of(
                         x, n, [](auto v) HWY_ATTR { return v; }, [](float v) { return v; }) /
                     count;
    const auto middle = hn::Set(d, mu);
    const float square = sum_of(
        x, n,
        [&](auto v) HWY_ATTR {
          const auto c = hn::Sub(v, middle);
          return hn::Mul(c, c);
        },
        [mu](float v) { return (v - mu) * (v - mu); });
    const float rs = 1.0f / std::sqrt(square / count + eps);
    mean[r] = mu;
    rstd[r] = rs;
    const auto scale = hn::Set(d, rs);
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      const auto xh = hn::Mul(hn::Sub(hn::LoadU(d, x + i), middle), scale);
      hn::StoreU(hn::MulAdd(xh, hn::LoadU(d, w + i), hn::LoadU(d, b + i)), d, y + i);
    }
    for (; i < n; ++i) y[i] = (x[i] - mu) * rs * w[i] + b[i];
  }
}

// With xh = (x - mean) rstd and h = dy w: dx = rstd (h - mean(h) - xh mean(h xh)), dw += dy xh,
// db += dy.
void layer_norm_backward(const float* x, int64_t ldx, const float* w, const float* mean,
                         const float* rstd, const float* dy, int64_t ldy, int64_t rows, int64_t n,
                         float* dx, int64_t lddx, float* dw, float* db) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < rows; ++r, x += ldx, dy += ldy, dx += lddx) {
    const float mu = mean[r], rs = rstd[r];
    const auto middle = hn::Set(d, mu), scale = hn::Set(d, rs);
    auto sum = hn::Zero(d), dot = hn::Zero(d);
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      const auto xh = hn::Mul(hn::Sub(hn::LoadU(d, x + i), middle), scale);
      const auto g = hn::LoadU(d, dy + i), h = hn::Mul(g, hn::LoadU(d, w + i));
      hn::StoreU(hn::MulAdd(g, xh, hn::LoadU(d, dw + i)), d, dw + i);
      hn::StoreU(hn::Add(g, hn::LoadU(d, db + i)), d, db + i);
      sum = hn::Add(sum, h);
      dot = hn::MulAdd(h, xh, dot);
    }
    float total = hn::GetLane(hn::SumOfLanes(d, sum)), along = hn::GetLane(hn::SumOfLanes(d, dot));
    for (; i < n; ++i) {
      const float xh = (x[i] - mu) * rs;
      dw[i] += dy[i] * xh;
      db[i] += dy[i];
      total += dy[i] * w[i];
      along += dy[i] * w[i] * xh;
    }
    const float m0 = total / static_cast<float>(n), m1 = along / static_cast<float>(n);
    const auto v0 = hn::Set(d, m0), v1 = hn::Set(d, m1);
    for (i = 0; i + lanes <= n; i += lanes) {
      const auto xh = hn::Mul(hn::Sub(hn::LoadU(d, x + i), middle), scale);
      const auto h = hn::Mul(hn::LoadU(d, dy + i), hn::LoadU(d, w + i));
      hn::StoreU(hn::Mul(scale, hn::NegMulAdd(xh, v1, hn::Sub(h, v0))), d, dx + i);
    }
    for (; i < n; ++i) dx[i] = rs * (dy[i] * w[i] - m0 - (x[i] - mu) * rs * m1);
  }
}

}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(layer_norm);
HWY_EXPORT(layer_norm_backward);

void layer_norm_f32(const float* x, int64_t ldx, const float* w, const float* b, float eps,
                    int64_t rows, int64_t d, float* y, int64_t ldy, float* mean, float* rstd) {
  HWY_DYNAMIC_DISPATCH(layer_norm)(x, ldx, w, b, eps, rows, d, y, ldy, mean, rstd);
}

void layer_norm_backward_f32(const float* x, int64_t ldx, const float* w, const float* mean,
                             const float* rstd, const float* dy, int64_t ldy, int64_t rows,
                             int64_t d, float* dx, int64_t lddx, float* dw, float* db) {
  HWY_DYNAMIC_DISPATCH(layer_norm_backward)
  (x, ldx, w, mean, rstd, dy, ldy, rows, d, dx, lddx, dw, db);
}

}  // namespace braid
#endif
