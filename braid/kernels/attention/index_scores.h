#pragma once
// Scores of the lightning indexer (DeepSeek V3.2) for one query over kept keys.

#include "braid/kernels/attention/latent.h"

namespace braid {

constexpr int64_t kIndexHeads = 16;  // heads of one pass over a key
constexpr int64_t kIndexKeys = 16;   // keys taken at a time, at most

int64_t index_scores_scratch(int64_t heads, int64_t dim);  // floats, 64-byte aligned

// scores[t - begin] = sum_j weights[j] relu(q_j . k_t) for positions t in [begin, end); begin is a
// multiple of kIndexKeys. q [heads, dim]; keys: f32 rows [dim] of a view whose layout has rank dim
// and rope 0, readable up to the next multiple of kIndexKeys. A score's bits depend on its query
// and its key alone.
void index_scores_f32(const LatentView& keys, int64_t begin, int64_t end, int64_t heads,
                      int64_t dim, const float* q, const float* weights, float* scores,
                      float* scratch);

}  // namespace braid
