#pragma once
// Scratch of DeltaSharedPlan. C = chunk, n = blocks of 16 rows of the chunk at hand; rows past the
// sequence's end are zero and do not decay.

#include "braid/kernels/delta/delta_shared.h"
#include "braid/kernels/delta/delta_tile.h"

namespace braid {

struct DeltaSharedPlan::Tiles {
  int64_t n = 0;
  // Of all heads.
  float* q;       // [C, kp] scale * q
  float* k;       // [C, kp]
  float* kt;      // [kp, C]
  float* scores;  // [C, C] q k^T on and below the diagonal, 0 above it up to the end of its block
  float* erase_keys;    // [C, kp] x: k or p
  float* erase_scores;  // [C, C] x k^T
  // Of one head.
  double* sums;       // [C] cumulative log decay
  float* from_start;  // [C] decay from the chunk's start to the row, inclusive: E
  float* into;        // [C] of values: 1 / E while the decay is mild, else 1
  float* to_end;      // [C] decay after the row to the chunk's end (strong decay)
  float* factors;     // [C]
  float* undone;      // [C] of gates, without beta: E_(i-1) / E_i, else 1
  float* gate;        // [C] c
  float* from_erase;  // [C] decay from the chunk's start as the rows of x see it (strong decay)
  float* erase;       // [C, C] the system's scores below the diagonal
  float* l;           // [C, C] decay between rows (strong decay)
  float* decayed;     // [C, C] scores times l (strong decay)
  float* u;           // [C, vp]
  float* y;           // [C, vp]
  float* states;      // kMostHeads x [kp, vp], carried from chunk to chunk
};

struct DeltaSharedPlan::BackTiles {
  // Of all heads.
  float* qt;              // [kp, C]
  const float* erase_t;   // [kp, C] erase_keys^T
  float* own_erase_t;     // its memory where x is not k
  float* scores_t;        // [C, C]
  float* d_scores;        // [C, C] sum over heads of the scores' gradients
  float* d_erase_scores;  // [C, C]
  float* dqt;             // [kp, C] sums over heads, transposed
  float* dkt;             // [kp, C]
  float* d_erase_t;       // [kp, C]; dkt where x is k
  float* rows_t;          // [C, kp]
  // Of one head.
  const float* state;  // [kp, vp] before the chunk
  float* packed;       // [kp, vp] the same, where its rows must be padded
  float* d_o;          // [C, vp] as the scores meet it
  float* d_o_start;    // [C, vp] decayed from the chunk's start: as the state meets it
  float* u_end;        // [C, vp] values decayed to the chunk's end: as the state meets them
  float* values_t;     // [vp, C]
  float* d_read_t;     // [kp, C]
  float* dx;           // [C, vp] of gated values; negated under the delta rule
  float* w;            // [C, C]
  float* of_read;      // [C] q . dq through the state
  float* of_rows;      // [C] and through the scores, without i = j
  float* of_columns;   // [C] k . dk through the scores, without i = j
  float* of_state;     // [C] k . dk through the state
  float* of_erase;     // [C] gradient of the gate, through the scores
  float* of_erased;    // [C] and through the state
  float* d_beta;       // [C] gradient of beta through the values
};

// How one head's chunk decays.
struct DeltaSharedPlan::Decays {
  bool any = false;
  bool strong = false;
  float whole = 1;    // decay of the chunk
  double sum = 0;     // and its logarithm, with what was owed before
  double before = 0;  // what was owed
};

// A head's state between chunks: exp(sum) state, so that a mild chunk need not pass over it. sum is
// above -40.
struct DeltaSharedPlan::Carried {
  float* state = nullptr;  // [kp, vp]
  double sum = 0;
};

}  // namespace braid
