#pragma once
// Which tiles of keys the blocks of a piece read, where a prefix is not kept beside a window.

#include <algorithm>
#include <span>

#include "braid/kernels/attention/forward.h"

namespace braid {

// Tiles [begin, end).
struct Reach {
  int64_t begin, end;
  bool has(int64_t tile) const { return begin <= tile && tile < end; }
  Reach within(int64_t from, int64_t to) const {
    return {std::max(begin, from), std::min(end, to)};
  }
};

// Of a block within the piece [first_tile, end_tile).
inline Reach reach_of(const AttentionConfig& config, const QueryBlock& block, int64_t first_tile,
                      int64_t end_tile) {
  const int64_t last = block.position + block.rows - 1;
  return {std::max(first_tile, config.first_key(block.position) / kKvTile),
          std::min(end_tile, last / kKvTile + 1)};
}

// Writes the blocks' own reaches to `reach` and returns what they have together.
inline Reach reaches_of(const AttentionConfig& config, std::span<const QueryBlock> blocks,
                        int64_t first_tile, int64_t end_tile, Reach* reach) {
  Reach all{end_tile, first_tile};
  for (const QueryBlock& block : blocks) {
    *reach = reach_of(config, block, first_tile, end_tile);
    all = {std::min(all.begin, reach->begin), std::max(all.end, reach->end)};
    ++reach;
  }
  return all;
}

}  // namespace braid
