#pragma once
// Scratch of DeltaPairPlan. C = chunk, n = blocks of 16 tokens of the run at hand. What comes in
// pairs lies interleaved by blocks, so that one product serves both: in rows tiles 16 rows of p,
// then 16 of q; in keys tiles of b, then of k; in values tiles of u, then of v. Row i of the first
// kind is row pair_row(i), its partner's is 16 further. What lies past the run is zero.

#include "braid/kernels/delta/delta_pair.h"
#include "braid/kernels/delta/delta_tile.h"

namespace braid {

constexpr int64_t pair_row(int64_t i) {
  return i / kDeltaBlock * 2 * kDeltaBlock + i % kDeltaBlock;
}

struct DeltaPairPlan::Tiles {
  int64_t n = 0;
  float* alpha;         // [C, kp] exp(g)
  float* decay;         // [C, kp] product of alpha up to the row, inclusive: P
  float* after;         // [C, kp] product of alpha after the row
  float* whole;         // [kp] P of the last row
  float* inverse;       // [kp] 1 / whole; 1 in a run of one token
  float* rows;          // [2C, kp] p P_(i-1), scale q P_i
  float* plain;         // [2C, kp] the same without decay, of a run of one token
  const float* scored;  // the rows that scores are made of
  float* keys;          // [2C, kp] b, k decayed to the end of the run
  float* keys_t;        // [kp, 2C]
  float* raised_t;      // [kp, 2C] times inverse: b / P, k / P
  float* scores;        // [2C, 2C]; of p with b within a block negated
  float* values;        // [2C, vp] u, v
  float* y;             // [2C, vp]
  float* state;         // [kp, vp], of the head at hand
  float* states;        // kMostHeads x [kp, vp], carried from chunk to chunk
};

struct DeltaPairPlan::BackTiles {
  float*
      carry;  // [kp, vp], of the head at hand: gradient of the state after the run, then before it
  float* d_out;       // [2C, vp] gradients: of what p reads, as U would have it, and of o
  float* d_values;    // [2C, vp] of u and v
  float* scores_t;    // [2C, 2C]
  float* d_scores;    // [2C, 2C] diagonals zero
  float* d_scores_t;  // [2C, 2C]
  float* d_diagonal;  // [2C] diagonals of q with b and with k
  float* values_t;    // [vp, 2C]
  float* d_out_t;     // [vp, 2C]
  float* result_t;    // [kp, 2C]
  float* rows_t;      // [kp, 2C]
  float* raised;      // [2C, kp] b / P, k / P
  float* d_rows;      // [2C, kp] of rows
  float* d_raised;    // [2C, kp] of raised, through the scores
  float* d_keys;      // [2C, kp] of keys, through the state
  float* state_dot;   // [kp]
  float* dg;          // [C, kp]
  float* start;       // [kp, vp] the state before a run
};

}  // namespace braid
