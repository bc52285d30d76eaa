#pragma once
// How keys and values lie in memory for attention: tiles of 64 consecutive positions, aligned to
// absolute position, so that a key is met in the same place of the same product however the
// sequence was cut.
//
// One tile holds, for each kv head in turn, K transposed [d, 64] and V [64, d]. Transposed keys
// make the scores of a tile a plain row-major product for many queries and a sum of scaled rows (no
// horizontal adds) for one.

#include <cstdint>

namespace braid {

constexpr int64_t kKvTile = 64;

constexpr int64_t kv_tiles(int64_t positions) { return (positions + kKvTile - 1) / kKvTile; }
constexpr int64_t kv_head_floats(int64_t head_dim) { return 2 * kKvTile * head_dim; }
constexpr int64_t kv_tile_floats(int64_t kv_heads, int64_t head_dim) {
  return kv_heads * kv_head_floats(head_dim);
}

// The keys and values of one sequence. tiles[i] holds positions [(first_tile + i) * 64, ...); what
// lies past `length` in the last tile is zero or any finite number.
struct KvView {
  const float* const* tiles = nullptr;
  int64_t first_tile = 0;  // tiles before it are gone (sliding window)
  int64_t length = 0;      // positions of the sequence so far, those that are gone included
};

struct AttentionConfig {
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads; query head h reads kv head h / (heads / kv_heads)
  int64_t head_dim = 0;
  float scale = 1.0f;  // of q . k
  int64_t window = 0;  // a query sees this many keys at most, itself included; 0 = all before it

  int64_t group() const { return heads / kv_heads; }
  // First position that the query at `position` sees.
  int64_t first_key(int64_t position) const {
    return window > 0 && position >= window ? position - window + 1 : 0;
  }
};

}  // namespace braid
