#pragma once
// Scratch of DplrPlan. C = chunk, n = blocks of 16 micro-steps of the run at hand; R readers (p and
// q, or q) and W writers (k, or b and k) a micro-step. What comes in kinds lies interleaved by
// blocks, so that one product serves all: in rows tiles 16 rows of p, then 16 of q; in keys tiles
// of b, then of k; in values tiles of u, then of v. What lies past the run is zero.

#include "braid/kernels/delta/dplr.h"
#include "braid/kernels/delta/dplr_kernel.h"

namespace braid {

struct DplrPlan::Tiles {
  int64_t n = 0;
  bool mild = false;  // scores are products of decayed rows and keys
  float* alpha;       // [C, kp] exp(g)
  float* decay;       // [C, kp] product of alpha up to the row, inclusive: P
  float* after;       // [C, kp] product of alpha after the row
  float* whole;       // [kp] P of the last row
  float* inverse;     // [kp] 1 / whole, of a mild run
  float* rows;        // [RC, kp] p P (p P_(i-1) where the state is read before), scale q P
  float* keys;        // [WC, kp] decayed to the end of the run
  float* keys_t;      // [kp, WC]
  float* raised_t;    // [kp, WC] times inverse: keys / P
  float* plain_rows;  // [16 R, kp] of a run that is not mild, one block: rows as they are
  float* plain_keys;  // [16 W, kp]
  float* scores;      // [RC, WC]; of p with the first kind of keys within a block negated
  float* values;      // [WC, vp] u, v
  float* y;           // [16, vp]
  float* factors;     // [C]
  float* state;       // [kp, vp], of the head at hand
  float* states;      // kMostHeads x [kp, vp], carried from chunk to chunk
};

struct DplrPlan::BackTiles {
  float*
      carry;  // [kp, vp], of the head at hand: gradient of the state after the run, then before it
  const float* before;  // [kp, vp] the state before the run
  float* start;         // its memory where it is no state that was kept
  float* d_out;         // [RC, vp] gradients: of what p reads, as u would have it, and of o
  float* d_values;      // [WC, vp] of u and v
  float* scores_t;      // [WC, RC]
  float* d_scores;      // [RC, WC] diagonals zero
  float* d_scores_t;    // [WC, RC]
  float* d_diagonal;    // [WC] diagonals of q with each kind of keys
  float* values_t;      // [vp, WC]
  float* d_out_t;       // [vp, RC]
  float* result_t;      // [kp, WC] or [kp, RC]
  float* rows_t;        // [kp, RC]
  float* scored;        // [WC, kp] keys that scores are made of: keys / P, or plain_keys
  float* raised;        // its memory in a mild run
  float* d_rows;        // [RC, kp] of rows
  float* d_plain;       // [16 R, kp] of plain_rows
  float* d_scored;      // [WC, kp] of scored
  float* d_keys;        // [WC, kp] of keys, through the state
  float* state_dot;     // [kp]
  float* dg;            // [C, kp]
  float* d_beta;        // [C] gradient of beta through the values
};

}  // namespace braid
