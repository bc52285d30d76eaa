#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/attention/index_scores_kernel.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "braid/kernels/attention/index_scores.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // other kernel families use the same short names

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));

// Heads are lanes: 16 heads at a time, of as many keys as leave registers for the rest.
constexpr int kVectors = static_cast<int>(kIndexHeads / kLanes);
constexpr int kKeys = kVectors == 1 ? 16 : 8 / kVectors;

// sums += weights (.) relu(q . k) of kKeys adjacent keys and kIndexHeads heads; turned [dim,
// kIndexHeads]. Rows come one after the other from memory, so those after next are asked for a line
// at a time between the products.
void add_heads(const float* HWY_RESTRICT keys, int64_t dim, const float* HWY_RESTRICT turned,
               const float* HWY_RESTRICT weights, V* HWY_RESTRICT sums) {
  const D d;
  V acc[kKeys][kVectors];
  for (int k = 0; k < kKeys; ++k) {
    for (int v = 0; v < kVectors; ++v) acc[k][v] = hn::Zero(d);
  }
  constexpr int64_t kLine = 16, kAhead = 2 * kKeys;
  constexpr int64_t kLinesAStep = (kKeys + kLine - 1) / kLine;
  const float* ahead = keys + kAhead * dim;
  for (int64_t c = 0; c < dim; ++c) {
    for (int64_t i = 0; i < kLinesAStep; ++i) hwy::Prefetch(ahead + (c * kLinesAStep + i) * kLine);
    V q[kVectors];
    for (int v = 0; v < kVectors; ++v) q[v] = hn::Load(d, turned + c * kIndexHeads + v * kLanes);
    HWY_UNROLL(16)
    for (int k = 0; k < kKeys; ++k) {
      const V key = hn::Set(d, keys[k * dim + c]);
      for (int v = 0; v < kVectors; ++v) acc[k][v] = hn::MulAdd(q[v], key, acc[k][v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    const V w = hn::Load(d, weights + v * kLanes);
    for (int k = 0; k < kKeys; ++k)
      sums[k] = hn::MulAdd(w, hn::Max(acc[k][v], hn::Zero(d)), sums[k]);
  }
}

void scores_of(const LatentView& keys, int64_t begin, int64_t end, int64_t heads, int64_t dim,
               const float* q, const float* weights, float* scores, float* scratch) {
  const int64_t groups = (heads + kIndexHeads - 1) / kIndexHeads;
  float* turned = scratch;  // [groups][dim, kIndexHeads], zero past the last head
  float* padded = turned + groups * dim * kIndexHeads;
  for (int64_t j = 0; j < groups * kIndexHeads; ++j) {
    float* to = turned + j / kIndexHeads * dim * kIndexHeads + j % kIndexHeads;
    for (int64_t c = 0; c < dim; ++c) to[c * kIndexHeads] = j < heads ? q[j * dim + c] : 0.0f;
    padded[j] = j < heads ? weights[j] : 0.0f;
  }
  for (int64_t from = begin; from < end; from += kKeys) {
    const auto* rows = reinterpret_cast<const float*>(keys.row(from));
    V sums[kKeys];
    for (int k = 0; k < kKeys; ++k) sums[k] = hn::Zero(D());
    for (int64_t g = 0; g < groups; ++g)
      add_heads(rows, dim, turned + g * dim * kIndexHeads, padded + g * kIndexHeads, sums);
    for (int64_t k = 0; k < std::min<int64_t>(kKeys, end - from); ++k)
      scores[from - begin + k] = hn::GetLane(hn::SumOfLanes(D(), sums[k]));
  }
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(scores_of);

int64_t index_scores_scratch(int64_t heads, int64_t dim) {
  return (heads + kIndexHeads - 1) / kIndexHeads * kIndexHeads * (dim + 1);
}

void index_scores_f32(const LatentView& keys, int64_t begin, int64_t end, int64_t heads,
                      int64_t dim, const float* q, const float* weights, float* scores,
                      float* scratch) {
  HWY_DYNAMIC_DISPATCH(scores_of)
  (keys, begin, end, heads, dim, q, weights, scores, scratch);
}

}  // namespace braid
#endif
