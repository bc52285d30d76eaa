#pragma once
// SIMD pieces that write one row of the caller's gradients from packed tiles of the chunked
// recurrence (delta_tile.h). Tile rows are padded to whole vectors, the caller's rows are not.

#include <cstdint>

namespace braid {

enum class DeltaPut {
  kStore,
  kAdd,
  kStream,  // store past the caches, for arrays that do not fit them; see delta_rows_done
};

// Key side of one micro-step. Null outputs are not wanted; dr is null without delta rule.
//   to_q = scale (dq + diagonal k),  to_p = beta dr,  to_b = k (.) dr
//   to_k = dk + dk_state + diagonal q + what of dr reaches k: beta dr, or b (.) dr
struct DeltaKeyRow {
  const float *q, *k, *dq, *dk, *dk_state, *dr;
  float diagonal, scale;
  float beta;        // of dr into k; 0 when r is not made of beta and k
  float beta_p;      // of dr into p
  const float* b;    // null unless r = b (.) k
  const float* dot;  // row that dr is multiplied with for the result; may be null
  float *to_q, *to_k, *to_b, *to_p;
};

// Returns sum_d dot_d dr_d, 0 without dot. All rows have `count` elements.
float delta_put_keys(int64_t count, const DeltaKeyRow& row, DeltaPut put);

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
