#include <cmath>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/softmax/cross_entropy_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "braid/kernels/softmax/cross_entropy.h"

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;

float row_max(const float* z, int64_t n) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  float m = z[0];
  int64_t i = 0;
  if (n >= lanes) {
    auto v = hn::LoadU(d, z);
    for (i = lanes; i + lanes <= n; i += lanes) v = hn::Max(v, hn::LoadU(d, z + i));
    m = hn::GetLane(hn::MaxOfLanes(d, v));
  }
  for (; i < n; ++i) m = z[i] > m ? z[i] : m;
  return m;
}

// z <- e^(z - m); returns the sum.
float exp_row(float* z, int64_t n, float m) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto shift = hn::Set(d, m);
  auto sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto e = hn::Exp(d, hn::Sub(hn::LoadU(d, z + i), shift));
    hn::StoreU(e, d, z + i);
    sum = hn::Add(sum, e);
  }
  if (i < n) {
    const auto mask = hn::FirstN(d, static_cast<size_t>(n - i));
    const auto e =
        hn::IfThenElseZero(mask, hn::Exp(d, hn::Sub(hn::MaskedLoad(mask, d, z + i), shift)));
    hn::BlendedStore(e, mask, d, z + i);
    sum = hn::Add(sum, e);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// l = cap tanh(z / cap) in place; keeps dl/dz = 1 - (l / cap)^2 for the caller in `slope`.
void cap_row(float* z, int64_t n, float cap, float* slope) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto size = hn::Set(d, cap), by = hn::Set(d, 1.0f / cap), one = hn::Set(d, 1.0f);
  for (int64_t i = 0; i < n; i += lanes) {
    const auto mask = hn::FirstN(d, static_cast<size_t>(n - i < lanes ? n - i : lanes));
    const auto t = hn::Tanh(d, hn::Mul(hn::MaskedLoad(mask, d, z + i), by));
    hn::BlendedStore(hn::NegMulAdd(t, t, one), mask, d, slope + i);
    hn::BlendedStore(hn::Mul(size, t), mask, d, z + i);
  }
}

void scale_row(float* z, int64_t n, float by) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto s = hn::Set(d, by);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, z + i), s), d, z + i);
  for (; i < n; ++i) z[i] *= by;
}

float softmax_row(float* z, int64_t n) {
  const float m = row_max(z, n);
  const float sum = exp_row(z, n, m);
  scale_row(z, n, 1.0f / sum);
  return m + std::log(sum);
}

}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(row_max);
HWY_EXPORT(exp_row);
HWY_EXPORT(scale_row);
HWY_EXPORT(softmax_row);
HWY_EXPORT(cap_row);

float softmax_row_f32(float* z, int64_t n) { return HWY_DYNAMIC_DISPATCH(softmax_row)(z, n); }

CrossEntropyRow cross_entropy_row_f32(float* z, int64_t n, int64_t target, float cap, float z_coef,
                                      float scale) {
  thread_local std::vector<float> slope;
  if (cap > 0) {
    slope.resize(static_cast<size_t>(n));
    HWY_DYNAMIC_DISPATCH(cap_row)(z, n, cap, slope.data());
  }
  const float at_target = z[target];
  const float m = HWY_DYNAMIC_DISPATCH(row_max)(z, n);
  const float sum = HWY_DYNAMIC_DISPATCH(exp_row)(z, n, m);
  CrossEntropyRow row;
  row.lse = m + std::log(sum);
  row.nll = row.lse - at_target;
  if (scale == 0) return row;
  HWY_DYNAMIC_DISPATCH(scale_row)(z, n, scale * (1.0f + 2.0f * z_coef * row.lse) / sum);
  z[target] -= scale;
  if (cap > 0) {
    for (int64_t i = 0; i < n; ++i) z[i] *= slope[i];
  }
  return row;
}

}  // namespace braid
#endif
