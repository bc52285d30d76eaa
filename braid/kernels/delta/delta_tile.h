#pragma once
// SIMD pieces of the chunked recurrence on packed tiles. A tile has rows of a multiple of 16 floats
// (kp, vp: K and V rounded up) and a multiple of 16 rows; padding is zero. A block is 16
// consecutive rows; n blocks make a chunk.

#include <cstdint>

namespace braid {

inline constexpr int64_t kDeltaBlock = 16;

// b[cols, rows] = a[rows, cols]^T; both sizes multiples of 16.
void delta_transpose(int64_t rows, int64_t cols, const float* a, int64_t lda, float* b,
                     int64_t ldb);

// x <- exp(max(x, -1e4)).
void delta_exp(int64_t count, float* x);

// l[i, j] = exp(sums[i] - sums[j]) for j <= i, 0 for j > i up to the end of i's block; sums [16 n]
// falls.
void delta_decay_matrix(int64_t n, const double* sums, float* l, int64_t ld);

// Scores inside block-diagonal tiles under vector decay, by running decayed keys: for j <= i of a
// block
//   read[i, j] = sum_d q[i, d] k[j, d] e^(G_i - G_j),  erase[i, j] = the same of r for j < i, 0 on
//   the diagonal
// (pre: e^(G_(i-1) - G_j)). All operands point at the block; read and erase have row stride ld; r,
// erase may be null.
void delta_diagonal(int64_t kp, bool pre, const float* alpha, const float* q, const float* r,
                    const float* k, float* erase, float* read, int64_t ld);

// Gradients of the above without the i = j terms, ADDED to dq, dr, dk [16, kp].
void delta_diagonal_backward(int64_t kp, bool pre, const float* alpha, const float* q,
                             const float* r, const float* k, const float* d_erase,
                             const float* d_read, int64_t ld, float* dq, float* dr, float* dk);

// Solves (I + A) U = X for X [16 n, vp] in place; A strictly lower triangular with row stride ld.
void delta_solve(int64_t n, int64_t vp, const float* a, int64_t ld, float* x);

// x <- -(I + A)^-T x.
void delta_solve_transposed(int64_t n, int64_t vp, const float* a, int64_t ld, float* x);

// x <- factor x.
void delta_scale_all(int64_t count, float factor, float* x);

// x[i, :] <- factors[i] * x[i, :], row stride ld.
void delta_scale_rows(int64_t rows, int64_t cols, const float* factors, float* x, int64_t ld);

// x[i, :] <- row (.) x[i, :].
void delta_scale_columns(int64_t rows, int64_t cols, const float* row, float* x);

// sums[i] = sum_e a[i, e] b[i, e].
void delta_row_dots(int64_t rows, int64_t cols, const float* a, const float* b, float* sums);

}  // namespace braid
