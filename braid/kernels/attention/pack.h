#pragma once
// Rows of a [T, H, d] tensor to the tile layouts of attention and back.

#include <cstdint>

#include "braid/kernels/attention/tiles.h"

namespace braid {

// to[d, 64] column `begin + j` = from row j (row stride ld), for j < rows; the other columns are
// left alone.
void pack_columns(const float* from, int64_t ld, int64_t rows, int64_t d, int64_t begin, float* to);

// to[cols, rows] (row stride ldt) = the transpose of from[rows, cols] (row stride ldf).
void turn_rows(const float* from, int64_t ldf, int64_t rows, int64_t cols, float* to, int64_t ldt);

// to[64, d] rows = scale * from rows (row stride ld), rows of them.
void pack_rows(const float* from, int64_t ld, int64_t rows, int64_t d, float scale, float* to);

// to row r (row stride ld) = scale * column r of from[d, 64], for r < rows.
void unpack_columns(const float* from, int64_t rows, int64_t d, float scale, float* to, int64_t ld);

}  // namespace braid
