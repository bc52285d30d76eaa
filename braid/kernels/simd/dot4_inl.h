// Sums of four products of bytes, or of two of 16-bit numbers, as the machine has them. Included by
// a kernel file once per Highway target, inside HWY_BEFORE_NAMESPACE.
//
// Highway 1.0.3 has no operation for them, and its target AVX3_DL stands for machines with VNNI but
// does not switch the compiler to it; hence the intrinsics here and a pragma in the kernel file,
// which adds to Highway's own.

#if defined(BRAID_KERNELS_SIMD_DOT4_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BRAID_KERNELS_SIMD_DOT4_INL_H_
#undef BRAID_KERNELS_SIMD_DOT4_INL_H_
#else
#define BRAID_KERNELS_SIMD_DOT4_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#undef BRAID_VNNI
#if defined(__AVX512VNNI__) || HWY_TARGET == HWY_AVX3_DL
#define BRAID_VNNI 1
#else
#define BRAID_VNNI 0
#endif

namespace braid::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F = hn::CappedTag<float, 16>;
using I = hn::RebindToSigned<F>;
using U8 = hn::Repartition<uint8_t, F>;
using VF = hn::Vec<F>;
using VI = hn::Vec<I>;
using VU8 = hn::Vec<U8>;
constexpr int kLanes = HWY_MAX_BYTES >= 64 ? 16 : 8;  // outputs in one vector
constexpr int kParts = 16 / kLanes;                   // vectors that make up a panel's 16 rows

// Four bytes of activations in every lane.
HWY_INLINE VI four(const std::byte* x) {
  int32_t bits;
  std::memcpy(&bits, x, sizeof bits);
  return hn::Set(I(), bits);
}

// sum + w0 x0 + w1 x1 + w2 x2 + w3 x3 in every 32-bit lane; w unsigned, x signed bytes. Exact.
HWY_INLINE VI dot4(VI sum, VU8 w, VI x) {
#if BRAID_VNNI
  return VI{_mm512_dpbusd_epi32(sum.raw, w.raw, x.raw)};
#else
  // Even and odd bytes as 16-bit numbers: their products of pairs cannot overflow 32 bits.
  const hn::Repartition<int16_t, F> d16;
  const auto w16 = hn::BitCast(d16, w), x16 = hn::BitCast(d16, x);
  const auto w_even = hn::And(w16, hn::Set(d16, int16_t{0xFF}));
  const auto w_odd =
      hn::BitCast(d16, hn::ShiftRight<8>(hn::BitCast(hn::RebindToUnsigned<decltype(d16)>(), w16)));
  const auto x_even = hn::ShiftRight<8>(hn::ShiftLeft<8>(x16));
  const auto x_odd = hn::ShiftRight<8>(x16);
#if HWY_MAX_BYTES >= 64
  return VI{_mm512_add_epi32(sum.raw, _mm512_add_epi32(_mm512_madd_epi16(w_even.raw, x_even.raw),
                                                       _mm512_madd_epi16(w_odd.raw, x_odd.raw)))};
#else
  return VI{_mm256_add_epi32(sum.raw, _mm256_add_epi32(_mm256_madd_epi16(w_even.raw, x_even.raw),
                                                       _mm256_madd_epi16(w_odd.raw, x_odd.raw)))};
#endif
#endif
}

// sum + a0 b0 + a1 b1 in every 32-bit lane; a and b signed numbers of 16 bits. Exact where it fits.
HWY_INLINE VI dot2(VI sum, VI a, VI b) {
#if BRAID_VNNI
  return VI{_mm512_dpwssd_epi32(sum.raw, a.raw, b.raw)};
#elif HWY_MAX_BYTES >= 64
  return VI{_mm512_add_epi32(sum.raw, _mm512_madd_epi16(a.raw, b.raw))};
#else
  return VI{_mm256_add_epi32(sum.raw, _mm256_madd_epi16(a.raw, b.raw))};
#endif
}

HWY_INLINE VF halves(const std::byte* p) {
  const hn::Rebind<hwy::float16_t, F> d16;
  return hn::PromoteTo(F(), hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
}

}  // namespace braid::HWY_NAMESPACE

#endif  // toggled include guard
