#include "braid/kernels/attention/index_scores.h"

#include <algorithm>

#include "braid/kernels/attention/pack.h"
#include "braid/kernels/gemm/small.h"

namespace braid {

int64_t index_scores_scratch(int64_t heads, int64_t dim) {
  return heads * dim + 2 * kIndexTile * heads;
}

void index_scores_f32(const LatentView& keys, int64_t begin, int64_t end, int64_t heads,
                      int64_t dim, const float* q, const float* weights, float* scores,
                      float* scratch) {
  float* turned = scratch;                       // [dim, heads]
  float* by_key = turned + dim * heads;          // [64, heads]
  float* by_head = by_key + kIndexTile * heads;  // [heads, 64]
  turn_rows(q, dim, heads, dim, turned, heads);
  const SmallGemm product(kIndexTile, heads, dim, dim, heads, heads, false);
  for (int64_t from = begin; from < end; from += kIndexTile) {
    product(reinterpret_cast<const float*>(keys.row(from)), turned, by_key);
    turn_rows(by_key, heads, kIndexTile, heads, by_head, kIndexTile);
    float sums[kIndexTile] = {};
    for (int64_t j = 0; j < heads; ++j) {
      const float* row = by_head + j * kIndexTile;
      const float w = weights[j];
      for (int64_t i = 0; i < kIndexTile; ++i) sums[i] += w * std::max(row[i], 0.0f);
    }
    std::copy_n(sums, std::min(kIndexTile, end - from), scores + from - begin);
  }
}

}  // namespace braid
