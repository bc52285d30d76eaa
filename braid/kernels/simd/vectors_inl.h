// Vectors of up to 16 floats in Highway, for *_kernel.cpp files. Included once per SIMD target.
#if defined(BRAID_KERNELS_SIMD_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BRAID_KERNELS_SIMD_VECTORS_INL_H_
#undef BRAID_KERNELS_SIMD_VECTORS_INL_H_
#else
#define BRAID_KERNELS_SIMD_VECTORS_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // every kernel file has its own

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));

HWY_INLINE V load(const float* p) { return hn::LoadU(D(), p); }
HWY_INLINE void store(V v, float* p) { hn::StoreU(v, D(), p); }
HWY_INLINE V all(float x) { return hn::Set(D(), x); }

// The first `count` lanes: none below 0, all above kLanes.
HWY_INLINE hn::Mask<D> first_lanes(int64_t count) {
  return hn::FirstN(D(), static_cast<size_t>(std::clamp<int64_t>(count, 0, kLanes)));
}

// The first `count` numbers, zero behind them.
HWY_INLINE V load_some(const float* p, int64_t count) {
  return hn::MaskedLoad(first_lanes(count), D(), p);
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard
