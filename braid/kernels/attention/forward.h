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

// The same in pieces, for keys that are not all in memory at once: begin, then the keys of every
// piece [first_tile, end_tile) in turn, then finish. A piece begins at a multiple of
// kTilesPerStep tiles; the result is that of attention_forward_tile.
constexpr int64_t kTilesPerStep = 4;  // tiles of keys per step of the online softmax
constexpr int64_t attention_carry_floats(int64_t value_dim) { return kQueryTile * (value_dim + 2); }
void attention_begin(const AttentionConfig& config, int64_t head, float* carry);
void attention_piece(const AttentionConfig& config, int64_t head, const float* q, int64_t ld_q,
                     int64_t rows, int64_t position, const KvView& kv, int64_t first_tile,
                     int64_t end_tile, float* carry, float* scratch);
void attention_finish(const AttentionConfig& config, const float* carry, int64_t rows, float* out,
                      int64_t ld_out, float* lse);

}  // namespace braid
