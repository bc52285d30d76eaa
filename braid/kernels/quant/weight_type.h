#pragma once
// How the numbers of a weight matrix are kept, and where they lie.
//
// f32 and bf16 are row-major [rows, cols]. The quantised types keep `cols` in blocks of 32 that
// share a scale, and 16 rows side by side in a panel, so that one vector holds one number of each
// row; rows are padded to whole panels with zero scales. Inside a block the columns form 8 groups
// of 4, what one dot product instruction sums:
//
//   q8     block: u8 [8 groups][16 rows][4] = q + 128, then f16 scale [16 rows]        544 bytes
//   q4     block: u8 [4][16 rows][4], low half = group v, high half = group v + 4,
//          then f16 scale [16 rows]; value = scale (n - 8)                             288 bytes
//   q4min  super-block of 8 blocks: f16 d [16], f16 dmin [16], u32 [3][16] of 6-bit numbers, then
//          8 times u8 [4][16 rows][4]; value = d S n - dmin M                         2304 bytes
//          Number v of a row stands in word v / 5 at bit 6 (v % 5), number 15 in the top two bits
//          of the three words; numbers 0 to 7 are the blocks' S, 8 to 15 their M.
//
// A panel is its blocks one after the other, a matrix its panels: reading it is one stream. Files
// hold these bytes as they are.

#include <cstddef>
#include <cstdint>

namespace braid {

enum class WeightType : uint8_t { kF32, kBF16, kQ8, kQ4, kQ4Min };

constexpr int64_t kPanelRows = 16;
constexpr int64_t kQuantBlock = 32;   // columns that share a scale
constexpr int64_t kSuperBlock = 256;  // columns that share q4min's d and dmin

constexpr bool is_quantised(WeightType t) { return t >= WeightType::kQ8; }

// Columns must be a multiple of this.
constexpr int64_t weight_block(WeightType t) {
  return t == WeightType::kQ4Min ? kSuperBlock : is_quantised(t) ? kQuantBlock : 1;
}

// Bytes of weight_block(t) columns of a panel.
constexpr int64_t panel_block_bytes(WeightType t) {
  switch (t) {
    case WeightType::kQ8:
      return 544;
    case WeightType::kQ4:
      return 288;
    case WeightType::kQ4Min:
      return 2304;
    default:
      return 0;
  }
}

constexpr int64_t panel_bytes(WeightType t, int64_t cols) {
  return cols / weight_block(t) * panel_block_bytes(t);
}

// Bytes of one matrix.
constexpr int64_t weight_bytes(WeightType t, int64_t rows, int64_t cols) {
  if (!is_quantised(t)) return rows * cols * (t == WeightType::kF32 ? 4 : 2);
  return (rows + kPanelRows - 1) / kPanelRows * panel_bytes(t, cols);
}

}  // namespace braid
