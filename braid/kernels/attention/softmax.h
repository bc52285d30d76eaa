#pragma once
// The softmax part of blocked attention, on tiles of 64 x 64 scores in base-2 units (scores times
// log2 e).

#include <cstdint>

#include "braid/kernels/attention/tiles.h"

namespace braid {

// One step of the online softmax for `rows` queries over `tiles` score tiles [tiles][64 queries, 64
// keys]. Scores become 2^(score - max); `max` [rows] and `sum` [rows] are carried on, and rows of
// out [rows, d] are rescaled where the maximum rose. A masked score is -inf; max starts at -inf and
// sum and out at 0.
void online_softmax(float* scores, int64_t tiles, int64_t rows, float* max, float* sum, float* out,
                    int64_t d);

// out row r = acc row r / sum[r] (0 where sum is 0); lse[r] = max[r] + log2 sum[r] unless lse is
// null.
void finish_softmax(const float* acc, const float* max, const float* sum, int64_t rows, int64_t d,
                    float* out, int64_t ld_out, float* lse);

// scores[count] become cap * tanh(scores / cap); slope[count], unless null, what that multiplies
// gradients by. count is a multiple of 16; cap is in the units of the scores.
void softcap_scores(float* scores, int64_t count, float cap, float* slope);

// Backward of one tile, transposed: scores [64 keys, 64 queries] become P = 2^(score - lse[query]),
// and d_p [same] becomes dS = P * (d_p - delta[query]), in natural units, times `slope` [same]
// unless that is null. Both are zero where the query at `query` + column does not see the key at
// `key` + row.
void softmax_backward_tile(const AttentionConfig& config, int64_t key, int64_t query,
                           const float* lse, const float* delta, const float* slope, float* scores,
                           float* d_p);

// to[r] = a row r . b row r, both with row stride ld
void row_dots(const float* a, const float* b, int64_t ld, int64_t rows, int64_t d, float* to);

}  // namespace braid
