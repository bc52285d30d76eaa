#include "braid/kernels/quant/tiles_amx.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "braid/kernels/quant/quant.h"
#include "braid/kernels/simd/amx.h"

namespace braid {
namespace {

constexpr int kRows = static_cast<int>(kQuantMatrixRows);
constexpr int kSums = kRows * static_cast<int>(kPanelRows);
constexpr int64_t kTileBlock = kQuantMatrixRows * 40;  // bytes of one block of a tile
constexpr int64_t kPairBlock = 1280;
constexpr int64_t kSliceBlocks = 16;  // of a pair: 20 KiB, which stay in the first cache

// Tiles 0 and 1 take the sums of even and odd blocks, 2 and 3 their activations, 4 and 5 their
// weights: 32 numbers of 16 rows, 8 groups of 4 numbers of 16 outputs.
constexpr AmxShapes kShapes = [] {
  AmxShapes s;
  for (const int c : {0, 1}) s.rows[c] = kRows, s.row_bytes[c] = 64;
  for (const int a : {2, 3}) s.rows[a] = kRows, s.row_bytes[a] = 32;
  for (const int b : {4, 5}) s.rows[b] = 8, s.row_bytes[b] = 64;
  return s;
}();

// sums [16 rows][16 outputs] of one block.
template <int kParity>
inline void multiply(const std::byte* w, const std::byte* x, int32_t* sums) {
  amx_load<2 + kParity>(x, 32);
  amx_load<4 + kParity>(w, 128);
  amx_zero<kParity>();
  amx_int8<kParity, 2 + kParity, 4 + kParity>();
  amx_store<kParity>(sums, 64);
}

BRAID_AMX_CODE inline __m512 repeat(const std::byte* x, int r) {
  float v;
  std::memcpy(&v, x + r * 4, sizeof v);
  return _mm512_set1_ps(v);
}

// What quant_kernel.cpp does with a block's sums, in the same order: the same bits.
template <bool kMin>
BRAID_AMX_CODE inline void add(const int32_t* sums, const std::byte* w, const std::byte* x,
                               __m512 (&to)[kRows]) {
  const __m512 scale = _mm512_loadu_ps(w + 1024);
  const std::byte* scales = x + kRows * 32;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    // The masked form: gcc 12 warns about an undefined operand inside the plain one.
    const __m512 sum = _mm512_maskz_cvtepi32_ps(0xFFFF, _mm512_load_si512(sums + r * 16));
    to[r] = _mm512_fmadd_ps(sum, _mm512_mul_ps(scale, repeat(scales, r)), to[r]);
  }
  if constexpr (kMin) {
    const __m512 min = _mm512_loadu_ps(w + 1152);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
      to[r] = _mm512_fnmadd_ps(min, repeat(scales + kRows * 4, r), to[r]);
  }
}

// A tile of rows times `blocks` blocks of one panel, added to `from` or to zero. The next block is
// multiplied while the sums of the last one are scaled.
template <bool kMin>
BRAID_AMX_CODE void slice(const std::byte* w, const std::byte* x, int64_t blocks, bool first,
                          const float* from, float* to, int64_t ldto) {
  alignas(64) int32_t sums[2][kSums];
  __m512 total[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
    total[r] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(from + r * 2 * kPanelRows);
  multiply<0>(w, x, sums[0]);
  for (int64_t b = 0; b < blocks; b += 2, w += 2 * kPairBlock, x += 2 * kTileBlock) {
    if (b + 1 < blocks) multiply<1>(w + kPairBlock, x + kTileBlock, sums[1]);
    add<kMin>(sums[0], w, x, total);
    if (b + 2 < blocks) multiply<0>(w + 2 * kPairBlock, x + 2 * kTileBlock, sums[0]);
    if (b + 1 < blocks) add<kMin>(sums[1], w + kPairBlock, x + kTileBlock, total);
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) _mm512_storeu_ps(to + r * ldto, total[r]);
}

template <bool kMin>
void tiles_of(const std::byte* pair, int64_t cols, const std::byte* tiles, int64_t rows,
              int64_t outs, float* y, int64_t ldy, float* sums) {
  const int64_t blocks = cols / kQuantBlock, tile_bytes = blocks * kTileBlock;
  for (int64_t b = 0; b < blocks; b += kSliceBlocks) {
    const int64_t n = std::min(kSliceBlocks, blocks - b);
    const bool last = b + n == blocks;
    for (int64_t row = 0; row < rows; row += kRows) {
      float* own = sums + row * 2 * kPanelRows;
      const std::byte* x = tiles + row / kRows * tile_bytes + b * kTileBlock;
      const bool whole = last && outs == 2 * kPanelRows && row + kRows <= rows;
      // Rows of y lie far apart and come from memory; asked for now they are there when stored to.
      for (int r = 0; whole && r < kRows; ++r) {
        __builtin_prefetch(y + (row + r) * ldy, 1);
        __builtin_prefetch(y + (row + r) * ldy + kPanelRows, 1);
      }
      for (int64_t p = 0; p * kPanelRows < outs; ++p) {
        const int64_t at = p * kPanelRows;
        slice<kMin>(pair + b * kPairBlock + p * 64, x, n, b == 0, own + at,
                    (whole ? y + row * ldy : own) + at, whole ? ldy : 2 * kPanelRows);
      }
      if (!last || whole) continue;
      for (int64_t r = 0; r < std::min<int64_t>(kRows, rows - row); ++r) {
        std::memcpy(y + (row + r) * ldy, own + r * 2 * kPanelRows,
                    static_cast<size_t>(outs) * sizeof(float));
      }
    }
  }
}

}  // namespace

void quant_tiles_amx(bool minima, const std::byte* pair, int64_t cols, const std::byte* tiles,
                     int64_t rows, int64_t outs, float* y, int64_t ldy, float* sums) {
  amx_begin(kShapes);
  if (minima) {
    tiles_of<true>(pair, cols, tiles, rows, outs, y, ldy, sums);
  } else {
    tiles_of<false>(pair, cols, tiles, rows, outs, y, ldy, sums);
  }
  amx_end();
}

}  // namespace braid
