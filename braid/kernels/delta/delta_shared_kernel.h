#pragma once
// SIMD pieces of delta_shared.h on tiles as in delta_tile.h.

#include <cstdint>

namespace braid {

// e = exp(sums) and inverse = 1 / e, each rounded once; count a multiple of 16, sums above -700.
void delta_row_decays(int64_t count, const double* sums, float* e, float* inverse);

// u[i, :] -= factors[i] y[i, :], all [rows, cols].
void delta_subtract_scaled(int64_t rows, int64_t cols, const float* factors, const float* y,
                           float* u);

// Zero above the diagonal, up to the end of its block: s [16 n, ld].
void delta_zero_above(int64_t n, float* s, int64_t ld);

// to = a (.) b on the blocks on and below the diagonal, all [16 n, ld].
void delta_multiply_lower(int64_t n, const float* a, const float* b, int64_t ld, float* to);

// to[i, j] = gates[i] s[i, j] l[i, j] for j < i, l[i - 1, j] in its place when `above`, and 0 from
// the diagonal to the end of its block; gates and l may be null: 1. All [16 n, ld].
void delta_gate_scores(int64_t n, const float* gates, const float* s, const float* l, bool above,
                       int64_t ld, float* to);

// Of scores s and their gradients w, which are zero above the diagonal: sum += gates (.) w; rows[i]
// = sum over j < i of s_ij w_ij; columns[j] += sum over i > j of gates_i s_ij w_ij. gates may be
// null: 1.
void delta_score_sums(int64_t n, const float* s, const float* w, const float* gates, int64_t ld,
                      float* sum, float* rows, float* columns);

// sum[d, i] += gates[i] x[d, i], and dots[i] = sum_d a[d, i] x[d, i] for i < cols; all [rows, ld].
// gates may be null: 1.
void delta_column_dots(int64_t rows, int64_t cols, const float* a, const float* x,
                       const float* gates, int64_t ld, float* sum, float* dots);

// sum_i a_i b_i.
double delta_dot(int64_t count, const float* a, const float* b);

}  // namespace braid
