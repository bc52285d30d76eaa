#pragma once
// Softmax attention of tiles of queries over everything before them, without a T x T buffer: online
// softmax over blocks of keys (2205.14135). f32; with matrix tiles in parts that add up to it
// (gemm/parts.h), and for what rounded weights made in 16-bit integers where those are fast
// (int16.h).

#include <cstdint>
#include <span>

#include "braid/kernels/attention/tiles.h"

namespace braid {

constexpr int64_t kQueryTile = 64;
constexpr int64_t kTilesPerStep = 4;  // tiles of keys per step of the online softmax

// Up to 64 queries of one head. What they have gathered is carried from one piece of the keys to
// the next: attention_carry_floats of memory.
struct QueryBlock {
  int64_t head = 0;
  const float* q = nullptr;  // its first row
  int64_t rows = 0;
  int64_t position = 0;  // of the first row
  float* carry = nullptr;
};
constexpr int64_t attention_carry_floats(int64_t value_dim) { return kQueryTile * (value_dim + 2); }

// How many blocks of one kv head are worth computing together: they share what is done to its keys
// and values. `heads` of them are query heads, the others further tiles of queries.
constexpr int64_t kMostQueryBlocks = 8;
struct QueryGrouping {
  int64_t heads, tiles;
  int64_t blocks() const { return heads * tiles; }
};
QueryGrouping query_grouping(const AttentionConfig& config);

// Whether its products are a library's small ones, made when first asked for.
bool attention_by_library(const AttentionConfig& config);

// Floats of scratch for attention_piece of that many blocks over keys and values of `type`.
int64_t attention_scratch(const AttentionConfig& config, KvType type, int64_t blocks);

// Blocks of one kv head over the keys of the piece [first_tile, end_tile): begin, then every piece
// in turn, then finish. q has row stride ld_q. A piece begins at a multiple of kTilesPerStep tiles;
// the result does not depend on where pieces end. Keys and values up to the last query's position
// are in `kv`. A query's result depends neither on the other rows of its block nor on other blocks.
void attention_begin(const AttentionConfig& config, const QueryBlock& block);
void attention_piece(const AttentionConfig& config, std::span<const QueryBlock> blocks,
                     int64_t ld_q, const KvView& kv, int64_t first_tile, int64_t end_tile,
                     float* scratch);
// out row stride ld_out; lse[rows] = log2 of the softmax denominators (null: not wanted).
void attention_finish(const AttentionConfig& config, const QueryBlock& block, float* out,
                      int64_t ld_out, float* lse);

}  // namespace braid
