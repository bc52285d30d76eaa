#pragma once
// How keys and values lie in memory for attention: tiles of 64 consecutive positions, aligned to
// absolute position, so that a key is met in the same place of the same product however the
// sequence was cut. A page is one or several consecutive tiles; it holds, for each kv head in turn,
// the keys of its tiles, each transposed [d, 64], then its values [64 * tiles, dv].
//
// Transposed keys make the scores of a tile a plain row-major product for many queries, and a sum
// of scaled rows (no horizontal adds) for one. Decoding reads a head of a page as one run of
// memory, which is what the hardware's prefetchers need to reach full bandwidth.
//
// In q8 a tile is its codes, then 64 scales, one per position. Four channels of a key lie together,
// [d / 4, 64, 4] of code + 128, and four positions of a value, [16, dv, 4]: what an instruction
// that sums four products of bytes takes. d is padded to a multiple of 4.
//
// Where attention forgets (decays.h), a page begins with the running sums of its positions, a run
// of 64 per query head and tile.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "braid/kernels/attention/kv_type.h"

namespace braid {

constexpr int64_t kKvTile = 64;

constexpr int64_t kv_tiles(int64_t positions) { return (positions + kKvTile - 1) / kKvTile; }
// The sizes of the parts, in bytes.
struct KvLayout {
  KvType type = KvType::kF32;
  int64_t d = 0, dv = 0;
  int64_t tiles_per_page = 1;
  int64_t decay_heads = 0;  // query heads with forget gates, 0 = none

  int64_t decay_bytes() const { return decay_heads * tiles_per_page * kKvTile * 8; }
  int64_t padded_d() const { return type == KvType::kQ8 ? (d + 3) / 4 * 4 : d; }
  int64_t scale_bytes() const { return type == KvType::kQ8 ? kKvTile * 4 : 0; }
  int64_t key_tile() const { return kKvTile * padded_d() * kv_element_bytes(type) + scale_bytes(); }
  int64_t value_tile() const { return kKvTile * dv * kv_element_bytes(type) + scale_bytes(); }
  int64_t head() const { return tiles_per_page * (key_tile() + value_tile()); }
  int64_t page(int64_t kv_heads) const { return decay_bytes() + kv_heads * head(); }
  // From the start of a page.
  int64_t decays(int64_t tile, int64_t query_head) const {
    return (query_head * tiles_per_page + tile % tiles_per_page) * kKvTile * 8;
  }
  int64_t keys(int64_t tile, int64_t kv_head) const {
    return decay_bytes() + kv_head * head() + tile % tiles_per_page * key_tile();
  }
  int64_t values(int64_t tile, int64_t kv_head) const {
    return decay_bytes() + kv_head * head() + tiles_per_page * key_tile() +
           tile % tiles_per_page * value_tile();
  }
  // Elements into a tile.
  int64_t key_at(int64_t row, int64_t channel) const {
    return type == KvType::kQ8 ? channel / 4 * kKvTile * 4 + row * 4 + channel % 4
                               : channel * kKvTile + row;
  }
  int64_t value_at(int64_t row, int64_t channel) const {
    return type == KvType::kQ8 ? row / 4 * dv * 4 + channel * 4 + row % 4 : row * dv + channel;
  }
};

// Blocks of `block` tokens, one every `stride`, that may overlap: block i begins at token i *
// stride.
struct KvBlocks {
  int64_t block = 1, stride = 1;
  // Those that lie whole within the first `tokens`.
  constexpr int64_t whole(int64_t tokens) const {
    return tokens < block ? 0 : (tokens - block) / stride + 1;
  }
  // The fewest tokens with so many.
  constexpr int64_t tokens(int64_t blocks) const {
    return blocks == 0 ? 0 : (blocks - 1) * stride + block;
  }
};

// The keys and values of one sequence in pages of tiles_per_page tiles each: the first kept_pages,
// which are never gone, then those from first_page >= kept_pages on. What lies past `length` in the
// last tile is zero or any finite number.
struct KvView {
  const std::byte* const* pages = nullptr;
  int64_t first_page = 0;  // those between the kept ones and it are gone (sliding window)
  int64_t length = 0;      // positions of the sequence so far, those that are gone included
  KvLayout layout;
  int64_t kept_pages = 0;
  // With pages of chosen tiles, for the decode kernel only: of every tile the positions that are
  // attended to, a bit each, at least one; null: all.
  const uint64_t* seen = nullptr;

  int64_t first_tile() const { return kept_pages > 0 ? 0 : first_page * layout.tiles_per_page; }
  bool holds(int64_t tile) const {
    const int64_t page = tile / layout.tiles_per_page;
    return page < kept_pages || page >= first_page;
  }
  const std::byte* page(int64_t tile) const {
    const int64_t page = tile / layout.tiles_per_page;
    return pages[page < kept_pages ? page : page - first_page + kept_pages];
  }
  const std::byte* keys(int64_t tile, int64_t kv_head) const {
    return page(tile) + layout.keys(tile, kv_head);
  }
  const std::byte* values(int64_t tile, int64_t kv_head) const {
    return page(tile) + layout.values(tile, kv_head);
  }
  const double* decays(int64_t tile, int64_t query_head) const {
    return reinterpret_cast<const double*>(page(tile) + layout.decays(tile, query_head));
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
  bool forgets = false;  // scores gain the forget gates between key and query (decays.h)
  // Queries, keys and values were made by rounded weights: 16 bits of them and of the probabilities
  // do where that is faster.
  bool rounded = false;
  int64_t prefix = 0;  // the first keys, which no window leaves out; 0 = none. Not with chunks

  int64_t group() const { return heads / kv_heads; }
  int64_t values() const { return value_dim > 0 ? value_dim : head_dim; }
  // First position that the query at `position` sees, those of the prefix left aside.
  int64_t first_key(int64_t position) const { return first_key_seen(window, chunk, position); }
  // First position after `key` whose query does not see it.
  int64_t end_query(int64_t key) const {
    const int64_t far = std::numeric_limits<int64_t>::max();
    if (key < prefix) return far;
    return std::min(window > 0 ? key + window : far, chunk > 0 ? (key / chunk + 1) * chunk : far);
  }
  // Whether [key, key + count) has a key that the query at `position` or a later one sees.
  bool keeps(int64_t key, int64_t count, int64_t position) const {
    return key < prefix || key + count > first_key(position);
  }
  static int64_t first_key_seen(int64_t window, int64_t chunk, int64_t position) {
    const int64_t by_window = window > 0 ? std::max<int64_t>(0, position - window + 1) : 0;
    return std::max(by_window, chunk > 0 ? position / chunk * chunk : 0);
  }
};

}  // namespace braid
