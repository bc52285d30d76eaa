#pragma once
// SIMD pieces of delta_pair.h on its tiles (delta_pair_tiles.h).

#include <cstdint>

#include "braid/kernels/delta/delta.h"
#include "braid/kernels/delta/delta_rows.h"

namespace braid {

// Tokens [first, first + rows) of h: alpha, decay [., kp] and rows tile; what is past them up to
// the end of the block is zero in rows, and 1 in alpha.
void pair_take_rows(const DeltaHead<float>& h, int64_t first, int64_t rows, int64_t kp,
                    float* alpha, float* decay, float* tile);

// Keys tile decayed to the end of the run by the products `after` of later alphas, which it makes.
void pair_take_keys(const DeltaHead<float>& h, int64_t first, int64_t rows, int64_t kp,
                    const float* alpha, float* after, float* tile);

// How many of the rows [rows, kp] stay at or above `least` in each of the first key_dim channels:
// decays fall from row to row.
int64_t pair_mild_rows(int64_t rows, int64_t key_dim, int64_t kp, const float* decay, float least);

// Scores [32 n, ld] within blocks: zero above the diagonal, rows of p on it too; of p with b
// negated.
void pair_mask_scores(int64_t n, float* scores, int64_t ld);

// Their gradients: the same zeros; the diagonals of q with b and k are moved to diagonal [16 n],
// [16 n] behind it, and zeroed.
void pair_mask_gradients(int64_t n, float* d_scores, int64_t ld, float* diagonal);

// dg [16 n, kp] from tiles (delta_pair_tiles.h), without what cancels: the i = j terms, and the
// last keys' way to the final state. state_dot [kp]: the decayed initial state times the carried
// gradient, summed over V.
void pair_decay_gradient(int64_t n, int64_t kp, const float* rows, const float* d_rows,
                         const float* raised, const float* d_raised, const float* keys,
                         const float* d_keys, const float* state_dot, float* dg);

// One token's gradients of q, k, b, p into the caller's rows; null = not wanted. Pointers into
// tiles are those of the token.
struct PairKeyRow {
  const float *q, *k, *b;              // the caller's
  const float *d_p, *d_q, *d_b, *d_k;  // of rows and, through the scores, of raised
  const float *d_b_state, *d_k_state;  // of keys, through the state
  const float *before, *decay,
      *after;            // decay of the row before (null: 1), up to the row, after it
  const float* inverse;  // [kp]
  float diagonal_b, diagonal_k, scale;
  float *to_q, *to_k, *to_b, *to_p;
};
void pair_put_keys(int64_t count, const PairKeyRow& row, DeltaPut put);

}  // namespace braid
