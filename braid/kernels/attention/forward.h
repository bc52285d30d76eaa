#pragma once
// Softmax attention of one tile of queries over everything before it, without a T x T buffer:
// online softmax over blocks of keys (2205.14135). f32.

#include <cstdint>

#include "braid/kernels/attention/tiles.h"

namespace braid {

constexpr int64_t kQueryTile = 64;

// Floats of scratch for attention_forward_tile over keys and values of `type`.
int64_t attention_forward_scratch(const AttentionConfig& config, KvType type);

// `rows` <= 64 queries of one head, q row stride ld_q, the first at `position`; keys and values up
// to the last query's position are in `kv`. out row stride ld_out; lse[rows] = log2 of the softmax
// denominators (null: not wanted). A query's result does not depend on the other rows of its tile.
void attention_forward_tile(const AttentionConfig& config, int64_t head, const float* q,
                            int64_t ld_q, int64_t rows, int64_t position, const KvView& kv,
                            float* out, int64_t ld_out, float* lse, float* scratch);

}  // namespace braid
