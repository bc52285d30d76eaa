// What the recurrence's kernels have beside simd/vectors_inl.h, for delta's *_kernel.cpp files.
// Included once per SIMD target.
#if defined(BRAID_KERNELS_DELTA_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BRAID_KERNELS_DELTA_INL_H_
#undef BRAID_KERNELS_DELTA_INL_H_
#else
#define BRAID_KERNELS_DELTA_INL_H_
#endif

#include "braid/kernels/delta/delta_rows.h"
#include "braid/kernels/delta/delta_tile.h"
#include "braid/kernels/simd/vectors_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // every kernel file has its own

constexpr int64_t kBlock = kDeltaBlock;

// The first `count` lanes into the caller's row.
HWY_INLINE void put(V v, float* to, int64_t count, DeltaPut how) {
  if (count < kLanes) {
    if (how == DeltaPut::kAdd) v = hn::Add(load_some(to, count), v);
    hn::BlendedStore(v, first_lanes(count), D(), to);
    return;
  }
  if (how == DeltaPut::kAdd) v = hn::Add(load(to), v);
  if (how == DeltaPut::kStream && reinterpret_cast<uintptr_t>(to) % sizeof(V) == 0) {
    hn::Stream(v, D(), to);
  } else {
    store(v, to);
  }
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard
