#pragma once
// The softmax part of blocked attention, on tiles of 64 x 64 scores in base-2 units (scores times
// log2 e).

#include <cstdint>

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

// Backward of one tile, transposed: scores [64 keys, 64 queries] become P = 2^(score - lse[query]),
// and d_p [same] becomes dS = P * (d_p - delta[query]), in natural units. Row r is zero outside
// columns [low + r, high + r).
void softmax_backward_tile(float* scores, float* d_p, const float* lse, const float* delta,
                           int64_t low, int64_t high);

// to[r] = a row r . b row r, both with row stride ld
void row_dots(const float* a, const float* b, int64_t ld, int64_t rows, int64_t d, float* to);

}  // namespace braid
