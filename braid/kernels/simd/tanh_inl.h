// tanh in Highway, for *_kernel.cpp files. Included once per SIMD target.
#if defined(BRAID_KERNELS_SIMD_TANH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BRAID_KERNELS_SIMD_TANH_INL_H_
#undef BRAID_KERNELS_SIMD_TANH_INL_H_
#else
#define BRAID_KERNELS_SIMD_TANH_INL_H_
#endif

#include <hwy/highway.h>

#include "braid/kernels/simd/exp2_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

// Relative error below 2e-7 everywhere; NaN stays NaN.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V tanh_fast(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const auto one = hn::Set(d, 1.0f), size = hn::Abs(x);
  // Far from 0: (1 - e) / (1 + e) with e = exp(-2 |x|).
  const auto e = exp2_fast(d, hn::Mul(size, hn::Set(d, -2.88539008177792681f)));
  const auto far = hn::CopySign(hn::Div(hn::Sub(one, e), hn::Add(one, e)), x);
  // Near 0, where that difference cancels: x + x^3 p(x^2), Chebyshev interpolation on |x| <= 0.55.
  const auto z = hn::Mul(x, x);
  auto p = hn::Set(d, -0x1.b13538p-8f);
  p = hn::MulAdd(p, z, hn::Set(d, 0x1.5d220ep-6f));
  p = hn::MulAdd(p, z, hn::Set(d, -0x1.b9a044p-5f));
  p = hn::MulAdd(p, z, hn::Set(d, 0x1.110feap-3f));
  p = hn::MulAdd(p, z, hn::Set(d, -0x1.555554p-2f));
  const auto near = hn::MulAdd(hn::Mul(x, z), p, x);
  return hn::IfThenElse(hn::Lt(size, hn::Set(d, 0.55f)), near, far);
}

}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard
