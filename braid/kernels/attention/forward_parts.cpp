#include "braid/kernels/attention/forward_parts.h"

#include <algorithm>

#include "braid/kernels/attention/kv_convert.h"
#include "braid/kernels/attention/reach.h"
#include "braid/kernels/attention/rounds.h"
#include "braid/kernels/attention/scores.h"
#include "braid/kernels/attention/softmax.h"
#include "braid/kernels/gemm/parts.h"
#include "braid/kernels/simd/amx.h"

namespace braid {
namespace {

constexpr float kLog2E = 1.44269504088896341f;
constexpr int64_t kScores = kQueryTile * kKvTile;
constexpr int kMostParts = 3;

int64_t padded(int64_t rows) { return (rows + kPartRows - 1) / kPartRows * kPartRows; }

// Left of a product stand queries and probabilities, right of it keys and values.
PartCounts parts_for(const AttentionConfig& config, KvType type) {
  const int parts = attention_rounds(config) ? 2 : 3;
  return {parts, type == KvType::kBF16 ? 1 : parts};
}

// Where things lie in the scratch.
struct Room {
  float *queries, *scores, *keys_or_values, *probabilities, *unpacked;
  int64_t queries_of_block;

  Room(const AttentionConfig& c, int64_t blocks, float* scratch) {
    queries_of_block = parts_floats(kMostParts, kQueryTile, c.head_dim);
    queries = scratch;
    scores = queries + blocks * queries_of_block;
    keys_or_values = scores + blocks * kTilesPerStep * kScores;
    probabilities = keys_or_values + std::max(parts_floats(kMostParts, kKvTile, c.head_dim),
                                              parts_floats(kMostParts, c.values(), kKvTile));
    unpacked = probabilities + parts_floats(kMostParts, kQueryTile, kKvTile);
  }
  static int64_t floats(const AttentionConfig& c, int64_t blocks) {
    const Room room(c, blocks, nullptr);
    return room.unpacked - room.queries + kKvTile * std::max(c.head_dim, c.values());
  }
};

class Piece {
 public:
  Piece(const AttentionConfig& config, int64_t kv_head, std::span<const QueryBlock> blocks,
        const KvView& kv, const Room& room)
      : config_(config),
        kv_head_(kv_head),
        blocks_(blocks),
        kv_(kv),
        room_(room),
        parts_(parts_for(config, kv.layout.type)) {}

  void score(int64_t tile, int64_t step, std::span<const Reach> reach) const {
    const int64_t d = config_.head_dim;
    const std::byte* keys = kv_.keys(tile, kv_head_);
    split_right(parts_, in_f32(keys, unpack_keys), kKvTile, d, kKvTile, room_.keys_or_values);
    for (size_t b = 0; b < blocks_.size(); ++b) {
      if (!reach[b].has(tile)) continue;
      const QueryBlock& block = blocks_[b];
      float* s = scores(b) + (tile - step) * kScores;
      multiply_parts(parts_, padded(block.rows), kKvTile, d, queries(b), room_.keys_or_values,
                     false, s, kKvTile);
      finish_scores(config_, kv_, block, tile, padded(block.rows), s);
    }
  }
  void soften(int64_t step, int64_t end, std::span<const Reach> reach) const {
    const int64_t dv = config_.values();
    for (size_t b = 0; b < blocks_.size(); ++b) {
      const Reach tiles = reach[b].within(step, end);
      if (tiles.begin >= tiles.end) continue;
      float* max = blocks_[b].carry + kQueryTile * dv;
      online_softmax(scores(b) + (tiles.begin - step) * kScores, tiles.end - tiles.begin,
                     blocks_[b].rows, max, max + kQueryTile, blocks_[b].carry, dv);
    }
  }
  void gather(int64_t tile, int64_t step, std::span<const Reach> reach) const {
    const int64_t dv = config_.values();
    const std::byte* values = kv_.values(tile, kv_head_);
    split_right(parts_, in_f32(values, unpack_values), dv, kKvTile, dv, room_.keys_or_values);
    for (size_t b = 0; b < blocks_.size(); ++b) {
      if (!reach[b].has(tile)) continue;
      const int64_t rows = blocks_[b].rows;
      split_left(parts_, scores(b) + (tile - step) * kScores, kKvTile, rows, kKvTile, 1.0f,
                 room_.probabilities);
      multiply_parts(parts_, padded(rows), dv, kKvTile, room_.probabilities, room_.keys_or_values,
                     true, blocks_[b].carry, dv);
    }
  }
  float* queries(size_t block) const {
    return room_.queries + static_cast<int64_t>(block) * room_.queries_of_block;
  }

 private:
  float* scores(size_t block) const {
    return room_.scores + static_cast<int64_t>(block) * kTilesPerStep * kScores;
  }
  template <typename Unpack>
  const float* in_f32(const std::byte* tile, Unpack unpack) const {
    if (kv_.layout.type == KvType::kF32) return reinterpret_cast<const float*>(tile);
    unpack(kv_.layout, tile, room_.unpacked);
    return room_.unpacked;
  }

  const AttentionConfig& config_;
  int64_t kv_head_;
  std::span<const QueryBlock> blocks_;
  const KvView& kv_;
  const Room& room_;
  PartCounts parts_;
};

}  // namespace

bool attention_by_parts(const AttentionConfig& config) {
  // Blocks that share a piece read one range of tiles, which a prefix besides a window is not.
  return config.head_dim % kPartDepth == 0 && config.values() % kPartRows == 0 &&
         config.prefix == 0 && amx();
}

int64_t attention_parts_scratch(const AttentionConfig& config, int64_t blocks) {
  return Room::floats(config, blocks);
}

void attention_piece_by_parts(const AttentionConfig& config, int64_t kv_head,
                              std::span<const QueryBlock> blocks, int64_t ld_q, const KvView& kv,
                              int64_t first_tile, int64_t end_tile, float* scratch) {
  const Room room(config, std::ssize(blocks), scratch);
  const Piece piece(config, kv_head, blocks, kv, room);
  Reach reach[kMostQueryBlocks];
  const auto [begin, end] = reaches_of(config, blocks, first_tile, end_tile, reach);
  for (size_t b = 0; b < blocks.size(); ++b) {
    split_left(parts_for(config, kv.layout.type), blocks[b].q, ld_q, blocks[b].rows,
               config.head_dim, config.scale * kLog2E, piece.queries(b));
  }
  for (int64_t step = begin / kTilesPerStep * kTilesPerStep; step < end; step += kTilesPerStep) {
    const int64_t from = std::max(step, begin), to = std::min(step + kTilesPerStep, end);
    for (int64_t t = from; t < to; ++t) piece.score(t, step, reach);
    piece.soften(step, to, reach);
    for (int64_t t = from; t < to; ++t) piece.gather(t, step, reach);
  }
}

}  // namespace braid
