#include "braid/kernels/attention/forward_int16.h"

#include <algorithm>

#include "braid/kernels/attention/int16.h"
#include "braid/kernels/attention/kv_convert.h"
#include "braid/kernels/attention/reach.h"
#include "braid/kernels/attention/rounds.h"
#include "braid/kernels/attention/scores.h"
#include "braid/kernels/attention/softmax.h"

namespace braid {
namespace {

constexpr float kLog2E = 1.44269504088896341f;
constexpr int64_t kScores = kQueryTile * kKvTile;
constexpr int64_t kPadded = 32;  // channels are a multiple of it

// 64 rows of integers with their scales.
struct Integers {
  int16_t* numbers;
  float* scales;
};
constexpr int64_t integer_floats(int64_t channels) { return 32 * channels + 64; }

// Where things lie in the scratch: queries of every block, keys and values of a step, scores of one
// block, a tile that is widened.
class Room {
 public:
  Room(const AttentionConfig& c, int64_t blocks, float* scratch)
      : channels_(c.head_dim),
        value_channels_(c.values()),
        queries_(scratch),
        keys_(queries_ + blocks * integer_floats(channels_)),
        values_(keys_ + kTilesPerStep * integer_floats(channels_)),
        scores_(values_ + kTilesPerStep * integer_floats(value_channels_)),
        widened_(scores_ + kTilesPerStep * kScores) {}
  static int64_t floats(const AttentionConfig& c, KvType type, int64_t blocks) {
    const int64_t widened = type == KvType::kF32 ? 0 : kKvTile * std::max(c.head_dim, c.values());
    return blocks * integer_floats(c.head_dim) + kTilesPerStep * kScores + widened +
           kTilesPerStep * (integer_floats(c.head_dim) + integer_floats(c.values()));
  }
  Integers queries(int64_t block) const { return at(queries_, channels_, block); }
  Integers keys(int64_t tile) const { return at(keys_, channels_, tile % kTilesPerStep); }
  Integers values(int64_t tile) const { return at(values_, value_channels_, tile % kTilesPerStep); }
  float* scores() const { return scores_; }
  float* widened() const { return widened_; }

 private:
  static Integers at(float* from, int64_t channels, int64_t i) {
    float* scales = from + i * integer_floats(channels);
    return {reinterpret_cast<int16_t*>(scales + 64), scales};
  }
  int64_t channels_, value_channels_;
  float *queries_, *keys_, *values_, *scores_, *widened_;
};

// The keys and values of tile `tile`.
void take_tile(const AttentionConfig& config, const KvView& kv, int64_t kv_head, int64_t tile,
               const Room& room) {
  const std::byte *keys = kv.keys(tile, kv_head), *values = kv.values(tile, kv_head);
  const bool plain = kv.layout.type == KvType::kF32;
  const Integers to_keys = room.keys(tile), to_values = room.values(tile);
  if (!plain) unpack_keys(kv.layout, keys, room.widened());
  int16_keys(plain ? reinterpret_cast<const float*>(keys) : room.widened(), config.head_dim,
             to_keys.numbers, to_keys.scales);
  if (!plain) unpack_values(kv.layout, values, room.widened());
  int16_values(plain ? reinterpret_cast<const float*>(values) : room.widened(), config.values(),
               to_values.numbers, to_values.scales);
}

// A block over tiles of one step.
void block_step(const AttentionConfig& config, const KvView& kv, const QueryBlock& block,
                Integers queries, Reach tiles, const Room& room) {
  if (tiles.begin >= tiles.end) return;
  const int64_t dv = config.values();
  const int64_t padded = (block.rows + kInt16Rows - 1) / kInt16Rows * kInt16Rows;
  float* scores = room.scores();
  for (int64_t t = tiles.begin; t < tiles.end; ++t, scores += kScores) {
    const Integers keys = room.keys(t);
    int16_scores(queries.numbers, queries.scales, padded, keys.numbers, keys.scales,
                 config.head_dim, scores);
    finish_scores(config, kv, block, t, padded, scores);
  }
  float *acc = block.carry, *max = acc + kQueryTile * dv;
  online_softmax(room.scores(), tiles.end - tiles.begin, block.rows, max, max + kQueryTile, acc,
                 dv);
  scores = room.scores();
  for (int64_t t = tiles.begin; t < tiles.end; ++t, scores += kScores) {
    const Integers values = room.values(t);
    int16_gather(scores, block.rows, values.numbers, values.scales, dv, acc);
  }
}

}  // namespace

bool attention_in_int16(const AttentionConfig& config) {
  return attention_rounds(config) && config.head_dim % kPadded == 0 &&
         config.values() % kPadded == 0 && config.prefix == 0 && int16_products();
}

int64_t attention_int16_scratch(const AttentionConfig& config, KvType type, int64_t blocks) {
  return Room::floats(config, type, blocks);
}

void attention_piece_in_int16(const AttentionConfig& config, int64_t kv_head,
                              std::span<const QueryBlock> blocks, int64_t ld_q, const KvView& kv,
                              int64_t first_tile, int64_t end_tile, float* scratch) {
  const int64_t count = std::ssize(blocks);
  const Room room(config, count, scratch);
  Reach reach[kMostQueryBlocks];
  const Reach all = reaches_of(config, blocks, first_tile, end_tile, reach);
  for (int64_t b = 0; b < count; ++b) {
    const Integers queries = room.queries(b);
    int16_queries(blocks[b].q, ld_q, blocks[b].rows, config.head_dim, config.scale * kLog2E,
                  queries.numbers, queries.scales);
  }
  for (int64_t step = all.begin / kTilesPerStep * kTilesPerStep; step < all.end;
       step += kTilesPerStep) {
    const Reach tiles = all.within(step, step + kTilesPerStep);
    for (int64_t t = tiles.begin; t < tiles.end; ++t) take_tile(config, kv, kv_head, t, room);
    for (int64_t b = 0; b < count; ++b) {
      block_step(config, kv, blocks[b], room.queries(b), reach[b].within(tiles.begin, tiles.end),
                 room);
    }
  }
}

}  // namespace braid
