#pragma once
// Attention of one new token per sequence: one pass over its keys and values, bound by reading
// them. The pass is split into blocks of fixed absolute position whose results are merged in order,
// so any split of the blocks over threads gives the same bits.

#include <cstdint>

#include "braid/kernels/attention/tiles.h"

namespace braid {

constexpr int64_t kDecodeTiles = 4;  // tiles of one block: a page of a growing kv
constexpr int64_t kDecodeBlock = kDecodeTiles * kKvTile;

// Blocks [0, kept) and [first, end), in this order, that the query at `position` reads.
struct DecodeBlocks {
  int64_t kept, first, end;
};
DecodeBlocks decode_blocks(const AttentionConfig& config, int64_t position);

// A partial result of one block and one query head: sum of p v [dv], then max and sum of the
// softmax.
constexpr int64_t decode_partial_floats(int64_t value_dim) { return value_dim + 2; }
// Floats of scratch for attention_decode_block; of those, head_dim + 8 for q8.
inline int64_t decode_scratch(const AttentionConfig& config) {
  return config.group() * (kDecodeBlock + 2 * config.head_dim + 8);
}

// The query heads of kv head `kv_head` over block `block`: q is the first of them, of the token at
// kv.length - 1, with head stride ld_q; partials [group, decode_partial_floats].
void attention_decode_block(const AttentionConfig& config, int64_t kv_head, int64_t block,
                            const float* q, int64_t ld_q, const KvView& kv, float* partials,
                            float* scratch);

// sums[i] = the sum over the query heads of kv head `kv_head` of the softmax of their scores, at
// every position i of kv, all of which the queries see; 0 from there to the end of the last tile.
// scratch: attention_probabilities_scratch floats.
int64_t attention_probabilities_scratch(const AttentionConfig& config, int64_t length);
void attention_probabilities(const AttentionConfig& config, int64_t kv_head, const float* q,
                             int64_t ld_q, const KvView& kv, float* sums, float* scratch);

// out[dv] of one head from its partials in `blocks` consecutive blocks, `stride` floats apart.
void attention_decode_merge(const AttentionConfig& config, int64_t head, const float* partials,
                            int64_t blocks, int64_t stride, float* out);

// out[t][j] = sum over i of w[t][i] x[i][j] for a few rows of w and x [rows, columns] in f32 or
// bf16 (adjacent rows): a product that is bound by reading x once.
void weighted_row_sums(KvType type, const std::byte* x, int64_t rows, int64_t columns, int64_t few,
                       const float* w, int64_t ld_w, float* out, int64_t ld_out);

}  // namespace braid
