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

// log(1 + e^x), relative accuracy kept where it is tiny.
template <class D, class V>
HWY_INLINE V softplus(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const V e = hn::Exp(d, hn::Neg(hn::Abs(x)));
  return hn::Add(hn::Max(x, hn::Zero(d)), hn::Log1p(d, e));
}

}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
