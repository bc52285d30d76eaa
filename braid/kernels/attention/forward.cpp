#include "braid/kernels/attention/forward.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "braid/base/error.h"
#include "braid/kernels/attention/decays.h"
#include "braid/kernels/attention/forward_int16.h"
#include "braid/kernels/attention/forward_parts.h"
#include "braid/kernels/attention/kv_convert.h"
#include "braid/kernels/attention/pack.h"
#include "braid/kernels/attention/scores.h"
#include "braid/kernels/attention/softmax.h"
#include "braid/kernels/gemm/small.h"

namespace braid {
namespace {

constexpr float kLog2E = 1.44269504088896341f;
constexpr int64_t kScores = kQueryTile * kKvTile;

// What the products are made of: matrix tiles, pairs of 16-bit integers, or vectors of f32.
enum class Arithmetic { kParts, kInt16, kVectors };

Arithmetic arithmetic_of(const AttentionConfig& config) {
  if (attention_by_parts(config)) return Arithmetic::kParts;
  return attention_in_int16(config) ? Arithmetic::kInt16 : Arithmetic::kVectors;
}

// Sets scores outside the causal window to -inf. scores[rows, 64]; row r is position + r, column c
// is key + c.
void mask_tile(const AttentionConfig& config, int64_t position, int64_t rows, int64_t key,
               float* scores) {
  const bool future = key + kKvTile - 1 > position;
  const bool gone = key < config.first_key(position + rows - 1) && key + kKvTile > config.prefix;
  if (!future && !gone) return;
  constexpr float kMasked = -std::numeric_limits<float>::infinity();
  for (int64_t r = 0; r < rows; ++r, scores += kKvTile) {
    const int64_t end = std::clamp<int64_t>(position + r + 1 - key, 0, kKvTile);
    const int64_t begin = std::clamp<int64_t>(config.first_key(position + r) - key, 0, end);
    const int64_t kept = std::clamp<int64_t>(config.prefix - key, 0, begin);
    std::fill(scores + kept, scores + begin, kMasked);
    std::fill(scores + end, scores + kKvTile, kMasked);
  }
}

int64_t block_scratch(const AttentionConfig& config, KvType type) {
  return kQueryTile * config.head_dim + kTilesPerStep * kScores +
         (type == KvType::kF32 ? 0 : kKvTile * std::max(config.head_dim, config.values()));
}

// attention_piece of one block, by products of f32.
void block_piece(const AttentionConfig& config, const QueryBlock& block, int64_t ld_q,
                 const KvView& kv, int64_t first_tile, int64_t end_tile, float* scratch) {
  const int64_t d = config.head_dim, dv = config.values(), rows = block.rows;
  float* queries = scratch;
  float* scores = queries + kQueryTile * d;
  float* unpacked = scores + kTilesPerStep * kScores;
  float* acc = block.carry;
  float* max = acc + kQueryTile * dv;
  float* sum = max + kQueryTile;
  const bool plain = kv.layout.type == KvType::kF32;

  // Whole groups of 8 rows keep the number of just-in-time kernels small; the rows added are zero.
  const int64_t padded = (rows + 7) / 8 * 8;
  const SmallGemm score(padded, kKvTile, d, d, kKvTile, kKvTile, false);
  const SmallGemm gather(padded, dv, kKvTile, kKvTile, dv, dv, true);
  pack_rows(block.q, ld_q, rows, d, config.scale * kLog2E, queries);
  std::fill(queries + rows * d, queries + padded * d, 0.0f);

  const int64_t end = std::min(end_tile, (block.position + rows - 1) / kKvTile + 1);
  // Tiles that no query of these sees are passed over, their keys may be gone.
  const auto seen_from = [&](int64_t tile) {
    const bool kept = config.keeps(tile * kKvTile, kKvTile, block.position);
    return kept ? tile : config.first_key(block.position) / kKvTile;
  };
  const int64_t kv_head = block.head / config.group();
  for (int64_t from = seen_from(first_tile); from < end;) {
    // A maximum and a rescale per 256 keys, aligned to absolute position.
    const int64_t to = std::min(end, (from / kTilesPerStep + 1) * kTilesPerStep);
    int64_t tiles[kTilesPerStep], count = 0;
    for (; from < to; from = seen_from(from + 1)) tiles[count++] = from;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t t = tiles[i];
      BRAID_DCHECK(kv.holds(t));
      float* s = scores + i * kScores;
      const std::byte* keys = kv.keys(t, kv_head);
      if (!plain) unpack_keys(kv.layout, keys, unpacked);
      score(queries, plain ? reinterpret_cast<const float*>(keys) : unpacked, s);
      finish_scores(config, kv, block, t, padded, s);
    }
    online_softmax(scores, count, rows, max, sum, acc, dv);
    for (int64_t i = 0; i < count; ++i) {
      const std::byte* values = kv.values(tiles[i], kv_head);
      if (!plain) unpack_values(kv.layout, values, unpacked);
      gather(scores + i * kScores, plain ? reinterpret_cast<const float*>(values) : unpacked, acc);
    }
  }
}

}  // namespace

void finish_scores(const AttentionConfig& config, const KvView& kv, const QueryBlock& block,
                   int64_t tile, int64_t padded, float* scores) {
  if (config.softcap > 0)
    softcap_scores(scores, padded * kKvTile, config.softcap * kLog2E, nullptr);
  if (kv.layout.decay_heads > 0) {
    double decays[kQueryTile];  // of the queries
    for (int64_t r = 0; r < block.rows; ++r) {
      const int64_t at = block.position + r;
      decays[r] = kv.decays(at / kKvTile, block.head)[at % kKvTile];
    }
    add_decay_differences(decays, block.rows, kv.decays(tile, block.head), 1.0f, scores);
  }
  mask_tile(config, block.position, block.rows, tile * kKvTile, scores);
}

bool attention_by_library(const AttentionConfig& config) {
  return arithmetic_of(config) == Arithmetic::kVectors;
}

QueryGrouping query_grouping(const AttentionConfig& config) {
  if (arithmetic_of(config) == Arithmetic::kVectors) return {1, 1};
  const int64_t heads = std::min(config.group(), kMostQueryBlocks);
  return {heads, kMostQueryBlocks / heads};
}

int64_t attention_scratch(const AttentionConfig& config, KvType type, int64_t blocks) {
  switch (arithmetic_of(config)) {
    case Arithmetic::kParts:
      return attention_parts_scratch(config, blocks);
    case Arithmetic::kInt16:
      return attention_int16_scratch(config, type, blocks);
    default:
      return block_scratch(config, type);
  }
}

void attention_begin(const AttentionConfig& config, const QueryBlock& block) {
  float* max = block.carry + kQueryTile * config.values();
  std::fill(block.carry, max, 0.0f);
  // A sink is a key that was met first and has no value.
  const bool sink = config.sinks != nullptr;
  std::fill(max, max + kQueryTile,
            sink ? config.sinks[block.head] * kLog2E : -std::numeric_limits<float>::infinity());
  std::fill(max + kQueryTile, max + 2 * kQueryTile, sink ? 1.0f : 0.0f);
}

void attention_piece(const AttentionConfig& config, std::span<const QueryBlock> blocks,
                     int64_t ld_q, const KvView& kv, int64_t first_tile, int64_t end_tile,
                     float* scratch) {
  for ([[maybe_unused]] const QueryBlock& b : blocks) {
    BRAID_DCHECK(std::min(b.position + b.rows, end_tile * kKvTile) <= kv.length);
    BRAID_DCHECK(b.head / config.group() == blocks[0].head / config.group());
  }
  const int64_t kv_head = blocks[0].head / config.group();
  switch (arithmetic_of(config)) {
    case Arithmetic::kParts:
      return attention_piece_by_parts(config, kv_head, blocks, ld_q, kv, first_tile, end_tile,
                                      scratch);
    case Arithmetic::kInt16:
      return attention_piece_in_int16(config, kv_head, blocks, ld_q, kv, first_tile, end_tile,
                                      scratch);
    default:
      for (const QueryBlock& b : blocks)
        block_piece(config, b, ld_q, kv, first_tile, end_tile, scratch);
  }
}

void attention_finish(const AttentionConfig& config, const QueryBlock& block, float* out,
                      int64_t ld_out, float* lse) {
  const int64_t dv = config.values();
  const float* max = block.carry + kQueryTile * dv;
  finish_softmax(block.carry, max, max + kQueryTile, block.rows, dv, out, ld_out, lse);
}

}  // namespace braid
