#pragma once
// How keys and values lie in memory for attention: tiles of 64 consecutive positions, aligned to
// absolute position, so that a key is met in the same place of the same product however the
// sequence was cut. A page is one or several consecutive tiles; it holds, for each kv head in turn,
// the keys of its tiles, each transposed [d, 64], then its values [64 * tiles, d].
//
// Transposed keys make the scores of a tile a plain row-major product for many queries, and a sum
// of scaled rows (no horizontal adds) for one. Decoding reads a head of a page as one run of
// memory, which is what the hardware's prefetchers need to reach full bandwidth.

#include <algorithm>
#include <cstdint>
#include <limits>

namespace braid {

constexpr int64_t kKvTile = 64;

constexpr int64_t kv_tiles(int64_t positions) { return (positions + kKvTile - 1) / kKvTile; }
constexpr int64_t kv_page_floats(int64_t kv_heads, int64_t head_dim, int64_t value_dim,
                                 int64_t tiles) {
  return kv_heads * tiles * kKvTile * (head_dim + value_dim);
}

// Where the parts of a tile are, in floats from its first head's keys.
struct KvLayout {
  int64_t head_stride = 0;  // to the next head's keys
  int64_t v_offset = 0;     // from a head's keys [d, 64] to its values [64, d]
};
constexpr KvLayout kv_layout(int64_t head_dim, int64_t value_dim, int64_t tiles_per_page) {
  return {tiles_per_page * kKvTile * (head_dim + value_dim), tiles_per_page * kKvTile * head_dim};
}

// The keys and values of one sequence. tiles[i] has positions [(first_tile + i) * 64, ...); what
// lies past `length` in the last tile is zero or any finite number.
struct KvView {
  const float* const* tiles = nullptr;
  int64_t first_tile = 0;  // tiles before it are gone (sliding window)
  int64_t length = 0;      // positions of the sequence so far, those that are gone included
  KvLayout layout;
  const float* keys(int64_t tile, int64_t kv_head) const {
    return tiles[tile - first_tile] + kv_head * layout.head_stride;
  }
  const float* values(int64_t tile, int64_t kv_head) const {
    return keys(tile, kv_head) + layout.v_offset;
  }
};

struct AttentionConfig {
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads; query head h reads kv head h / (heads / kv_heads)
  int64_t head_dim = 0;
  float scale = 1.0f;     // of q . k
  int64_t window = 0;     // a query sees this many keys at most, itself included; 0 = all before it
  int64_t chunk = 0;      // a query sees keys of its own chunk only: [0, chunk), ...; 0 = one chunk
  float softcap = 0;      // scores become softcap * tanh(score / softcap); 0 = as they are
  int64_t value_dim = 0;  // channels of a value and of a head's output; 0 = head_dim
  // [heads] scores that join the softmax's denominator alone, neither scaled nor capped; null: none
  const float* sinks = nullptr;

  int64_t group() const { return heads / kv_heads; }
  int64_t values() const { return value_dim > 0 ? value_dim : head_dim; }
  // First position that the query at `position` sees.
  int64_t first_key(int64_t position) const { return first_key_seen(window, chunk, position); }
  // First position after `key` whose query does not see it.
  int64_t end_query(int64_t key) const {
    const int64_t far = std::numeric_limits<int64_t>::max();
    return std::min(window > 0 ? key + window : far, chunk > 0 ? (key / chunk + 1) * chunk : far);
  }
  static int64_t first_key_seen(int64_t window, int64_t chunk, int64_t position) {
    const int64_t by_window = window > 0 ? std::max<int64_t>(0, position - window + 1) : 0;
    return std::max(by_window, chunk > 0 ? position / chunk * chunk : 0);
  }
};

}  // namespace braid
