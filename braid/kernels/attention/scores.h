#pragma once
// What happens to the scores of a tile between the product and the softmax.

#include "braid/kernels/attention/forward.h"

namespace braid {

// Scores [padded, 64] of the block's queries and the keys of `tile`, in base-2 units: the soft cap,
// the forget gates, and -inf where a query does not see a key.
void finish_scores(const AttentionConfig& config, const KvView& kv, const QueryBlock& block,
                   int64_t tile, int64_t padded, float* scores);

}  // namespace braid
