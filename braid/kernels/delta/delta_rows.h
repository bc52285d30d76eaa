#pragma once
// SIMD pieces between packed tiles of the chunked recurrence (delta_tile.h) and the caller's rows.
// Tile rows are padded to whole vectors, the caller's rows are not.

#include <cstdint>

#include "braid/kernels/delta/delta.h"

namespace braid {

// to [padded, ld]: rows [first, first + rows) of `from` of `count` elements, times factors [rows]
// and, when given, times rows of w. What is past them is zero.
void delta_take_rows(DeltaRows<const float> from, DeltaRows<const float> w, int64_t first,
                     int64_t rows, int64_t padded, int64_t count, int64_t ld, const float* factors,
                     float* to);

// Rows [first, first + rows) of `to`, `count` elements each: rows of y [rows, ld] times factors,
// which may be null. stream: past the caches (delta_rows_done).
void delta_give_rows(const float* y, int64_t ld, int64_t rows, int64_t count, const float* factors,
                     DeltaRows<float> to, int64_t first, bool stream);

// to = factor x, any count; stream: past the caches (delta_rows_done).
void delta_copy_scaled(int64_t count, float factor, const float* x, float* to, bool stream);

enum class DeltaPut {
  kStore,
  kAdd,
  kStream,  // store past the caches, for arrays that do not fit them; see delta_rows_done
};

// Value side: to_v = factor dx, times w when given; to_w = factor v (.) dx. Returns sum_e v_e dx_e.
struct DeltaValueRow {
  const float *dx, *v, *w;
  float factor;
  float *to_v, *to_w;
};

float delta_put_values(int64_t count, const DeltaValueRow& row, DeltaPut put);

// to = from.
void delta_put_row(int64_t count, const float* from, float* to, DeltaPut put);

// Makes rows put by kStream visible to other threads.
void delta_rows_done();

}  // namespace braid
