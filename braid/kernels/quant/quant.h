#pragma once
// Products with quantised weights (weight_type.h): activations are rounded to int8 in blocks of 32
// and multiplied as integers. A block's sum is exact; scale_w scale_x times it is added to the
// output in f32, block after block. All kernels below do the same operations in the same order, so
// a result depends neither on how many rows are computed together nor on which kernel did.

#include <cstddef>
#include <cstdint>

#include "braid/kernels/quant/weight_type.h"

namespace braid {

// Rows of activations lie together in tiles of 1, 2, 4 (for quant_stream) or quant_tile_rows()
// rows; unused rows of a tile are zero. A block of a tile of R rows: int8 [8 groups][R][4], f32
// scale [R], and what makes the weights' offset free [R]: i32 -zero sum(q), or f32 scale sum(q) for
// q4min. In a tile of kQuantMatrixRows the int8 lie row by row, [R][32].
constexpr int64_t kQuantTileRows = 6;     // with vectors
constexpr int64_t kQuantMatrixRows = 16;  // with matrix tiles (simd/amx.h)
constexpr int64_t kQuantStreamRows = 4;
int64_t quant_tile_rows();

constexpr int64_t quant_stream_tile(int64_t rows) { return rows <= 2 ? rows : kQuantStreamRows; }
constexpr int64_t quant_tile_bytes(int64_t tile_rows, int64_t cols) {
  return cols / kQuantBlock * tile_rows * (kQuantBlock + 8);
}

// Rounds `rows` <= tile_rows rows of x [., cols] to one tile for weights of `type`. A NaN or an
// infinity in a block makes the block's products NaN or infinite.
void quantise_rows(WeightType type, const float* x, int64_t ldx, int64_t rows, int64_t cols,
                   int64_t tile_rows, std::byte* tile);

// y[r, n] for r in [0, rows) and the outputs n of panels [begin, end) that are below `out`: one
// tile of up to kQuantStreamRows rows against packed weights, bound by reading them once.
void quant_stream(WeightType type, const std::byte* w, int64_t out, int64_t cols,
                  const std::byte* tile, int64_t rows, float* y, int64_t ldy, int64_t begin,
                  int64_t end);

// Two panels in the form quant_tiles takes: blocks of u8 [8 groups][2][16 rows][4], f32 scale
// [2][16], f32 minimum [2][16]. `panels` is 1 or 2; a missing second panel is zero. Matrix tiles
// take signed numbers without offset.
constexpr int64_t quant_pair_bytes(int64_t cols) { return cols / kQuantBlock * 1280; }
void quant_expand(WeightType type, const std::byte* w, int64_t panels, int64_t cols,
                  std::byte* pair);

// y[r, n] for all `rows` rows of tiles of quant_tile_rows() against one pair: y is [rows, outs]
// with outs <= 32 the outputs of the pair. `sums` is scratch of quant_sums(rows) floats.
constexpr int64_t quant_sums(int64_t rows) { return (rows + 15) * 2 * kPanelRows; }
void quant_tiles(WeightType type, const std::byte* pair, int64_t cols, const std::byte* tiles,
                 int64_t rows, int64_t outs, float* y, int64_t ldy, float* sums);

}  // namespace braid
