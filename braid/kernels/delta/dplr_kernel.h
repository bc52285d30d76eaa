#pragma once
// SIMD pieces of dplr.h on its tiles (dplr_tiles.h).

#include <cstdint>

#include "braid/kernels/delta/delta.h"
#include "braid/kernels/delta/delta_rows.h"

namespace braid {

// Micro-steps [first, first + rows) of h: alpha, decay [., kp] and rows tile; what is past them up
// to the end of the block is zero in rows, and 1 in alpha. Without alpha, the rows as they are.
void dplr_take_rows(const DeltaHead<float>& h, int64_t first, int64_t rows, int64_t kp,
                    float* alpha, float* decay, float* tile);

// Keys tile decayed to the end of the run by the products `after` of later alphas, which it makes;
// without alpha, the keys as they are.
void dplr_take_keys(const DeltaHead<float>& h, int64_t first, int64_t rows, int64_t kp,
                    const float* alpha, float* after, float* tile);

// How many of n blocks of decay [16 n, kp] stay at or above `least` in each of the first key_dim
// channels: decays fall from row to row.
int64_t dplr_mild_blocks(int64_t n, int64_t key_dim, int64_t kp, const float* decay, float least);

// to[d, :] = factors[d] from[d, :], both [rows, ld], of which `cols` count.
void dplr_raise(int64_t rows, int64_t cols, const float* factors, const float* from, int64_t ld,
                float* to);

// Rows and keys a token: of scores [16 readers n, ld].
struct DplrKinds {
  int64_t readers;  // 2: p and q; 1: q
  int64_t writers;  // 1: k; 2: b and k
};

// Scores within blocks: zero above the diagonal, rows of p on it too; of p with the first kind of
// keys negated.
void dplr_mask_scores(int64_t n, DplrKinds kinds, float* scores, int64_t ld);

// Their gradients: the same zeros; the diagonals of q with each kind of keys are moved to
// diagonal [writers][16 n], and zeroed.
void dplr_mask_gradients(int64_t n, DplrKinds kinds, float* d_scores, int64_t ld, float* diagonal);

// Tiles and their gradients; plain may be null.
struct DplrGradients {
  const float *rows, *d_rows;         // decayed rows
  const float *plain_rows, *d_plain;  // as they are, through the scores
  const float *scored, *d_scored;     // the keys that scores are made of, through the scores
  const float *keys, *d_keys;         // decayed keys, through the state
  const float*
      state_dot;  // [kp] the decayed initial state times the carried gradient, summed over V
};

// dg [16 n, kp], without what cancels: the i = j terms, and the last keys' way to the final state.
// before: p reads before the token's own decay.
void dplr_decay_gradient(int64_t n, DplrKinds kinds, bool before, int64_t kp,
                         const DplrGradients& gradients, float* dg);

// One micro-step's gradients of q, k, b, p into the caller's rows; null = not wanted. Pointers into
// tiles are those of the micro-step.
struct DplrKeyRow {
  const float *q, *k, *b, *p;          // the caller's; q is null where no output is read
  const float *d_p, *d_q;              // of decayed rows
  const float *d_plain_p, *d_plain_q;  // of rows as they are, or null
  const float* d_scored[2];            // of each kind of keys, through the scores
  const float* d_keys[2];              // and through the state
  const float *of_p, *of_q, *after;    // decays of p (null: 1), of q, and of keys to the run's end
  const float* inverse;                // [kp] of the run's decay, where scores are of raised keys
  float diagonal[2];
  float scale, beta;
  float *to_q, *to_k, *to_b, *to_p;
};

// Returns the gradient of beta through the keys, where they have one.
float dplr_put_keys(DeltaErase erase, int64_t count, const DplrKeyRow& row, DeltaPut put);

}  // namespace braid
