#pragma once
// Forget gates of softmax attention (Forgetting Transformer, arXiv 2503.02130): the score of query
// i and key j gains F_i - F_j, where F_t sums the logarithms of a head's gates up to t. Sums are
// base-2 and in double, for they grow with the sequence while their differences must not lose
// anything; differences are taken in double, and only for tiles that are computed anyway.

#include <cstdint>

namespace braid {

// to[t] = before + log2(e) (log_f[0] + ... + log_f[t * ld]), t < tokens; returns the last, or
// `before`. Every sum is rounded to two floats, which a file keeps.
double cumulate_decays(const float* log_f, int64_t ld, int64_t tokens, double before, double* to);

// scores[r][c] += sign (row[r] - column[c]) for a tile of `rows` <= 64 rows of 64 scores.
void add_decay_differences(const double* row, int64_t rows, const double* column, float sign,
                           float* scores);

// to[r] += the sum of row r of tile [64, 64].
void add_row_sums(const float* tile, double* to);

// d_log_f[t * ld] = -(of_keys[t] + ... + of_keys[length - 1]), where of_keys[j] sums dS_ij over the
// queries i. What the queries' own F_i would add is the sum of dS over a row of the softmax: zero.
void decay_gradient(const double* of_keys, int64_t length, float* d_log_f, int64_t ld);

}  // namespace braid
