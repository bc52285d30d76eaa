// Sigmoid, SiLU and softplus on Highway vectors, for *_kernel.cpp files. Exponentials are taken of
// values <= 0 only.
#if defined(BRAID_KERNELS_SIMD_SIGMOID_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BRAID_KERNELS_SIMD_SIGMOID_INL_H_
#undef BRAID_KERNELS_SIMD_SIGMOID_INL_H_
#else
#define BRAID_KERNELS_SIMD_SIGMOID_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "braid/kernels/simd/exp2_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

// 1 / (1 + e^-x), to a few ulp on both sides.
template <class D, class V>
HWY_INLINE V sigmoid(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const V one = hn::Set(d, 1.0f);
  const V e = hn::Exp(d, hn::Neg(hn::Abs(x)));
  const V numerator = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one);
  return hn::Div(numerator, hn::Add(one, e));
}

// d silu(x) / dx, given s = sigmoid(x).
template <class D, class V>
HWY_INLINE V silu_slope(D d, V x, V s) {
  namespace hn = hwy::HWY_NAMESPACE;
  const V one = hn::Set(d, 1.0f);
  return hn::Mul(s, hn::MulAdd(x, hn::Sub(one, s), one));
}

// e^-|x|, relative error below 2e-7; 0 from |x| = 87 on. NaN stays NaN.
template <class D, class V>
HWY_INLINE V exp_neg_abs(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const V a = hn::Min(hn::Set(d, 100.0f), hn::Abs(x));  // in this order a NaN passes
  const V log2e = hn::Set(d, 0x1.715476p+0f);
  // a log2(e) is rounded; what it lost is given back to first order.
  const V whole = hn::Mul(a, log2e), lost = hn::MulSub(a, log2e, whole);
  const V rest = hn::MulAdd(lost, hn::Set(d, 0.693147181f), hn::Mul(a, hn::Set(d, 1.33500e-8f)));
  const V e = exp2_fast(d, hn::Neg(whole));
  return hn::NegMulAdd(e, rest, e);
}

// log(1 + e) of 0 <= e <= 1 as 2 artanh(e / (2 + e)); relative accuracy kept where e is tiny.
template <class D, class V>
HWY_INLINE V log1p_unit(D d, V e) {
  namespace hn = hwy::HWY_NAMESPACE;
  const V s = hn::Div(e, hn::Add(e, hn::Set(d, 2.0f)));
  const V u = hn::Mul(s, s);
  // artanh(s) / s by u in [0, 1/9], relative error 4e-9.
  V p = hn::Set(d, 0x1.2055eep-3f);
  p = hn::MulAdd(p, u, hn::Set(d, 0x1.1e5cfcp-3f));
  p = hn::MulAdd(p, u, hn::Set(d, 0x1.99da14p-3f));
  p = hn::MulAdd(p, u, hn::Set(d, 0x1.5554e2p-2f));
  p = hn::MulAdd(p, u, hn::Set(d, 1.0f));
  return hn::Mul(hn::Add(s, s), p);
}

// log(1 + e^x), relative accuracy kept where it is tiny.
template <class D, class V>
HWY_INLINE V softplus(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  return hn::Add(hn::Max(x, hn::Zero(d)), log1p_unit(d, exp_neg_abs(d, x)));
}

}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
