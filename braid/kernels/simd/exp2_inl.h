// 2^x in Highway, for *_kernel.cpp files. Included once per SIMD target.
#if defined(BRAID_KERNELS_SIMD_EXP2_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BRAID_KERNELS_SIMD_EXP2_INL_H_
#undef BRAID_KERNELS_SIMD_EXP2_INL_H_
#else
#define BRAID_KERNELS_SIMD_EXP2_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

// Relative error below 1e-7 for -125 < x < 127; exactly 0 at and below -125, -inf included; exactly
// 1 at 0; NaN stays NaN. Softmax in base 2 saves the product with log2(e): callers fold it into the
// scale of the queries.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V exp2_fast(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToSigned<D> di;
  const auto low = hn::Set(d, -125.0f);
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits, where the shift below
  // finds it.
  const auto magic = hn::Set(d, 0x1.8p23f);
  const auto clamped = hn::Max(low, x);  // in this order a NaN passes
  const auto shifted = hn::Add(clamped, magic);
  const auto f = hn::Sub(clamped, hn::Sub(shifted, magic));
  // Chebyshev interpolation of 2^f on [-1/2, 1/2], degree 6.
  auto p = hn::Set(d, 0x1.444p-13f);
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.5f48cp-10f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.3b2a1cp-7f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.c6aeccp-5f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.ebfbep-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.62e43p-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  const auto y = hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent));
  return hn::IfThenZeroElse(hn::Le(x, low), y);
}

}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard
