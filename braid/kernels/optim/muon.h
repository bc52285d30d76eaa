#pragma once
// Pieces of the Muon update (Jordan et al. 2024; specs/objectives-and-precision.md section 7.2),
// each over a range that the caller partitions. Matrices are row-major and dense: [rows, cols] with
// row stride cols.

#include <cstdint>

namespace braid {

// Coefficients of one iteration X <- a X + (b A + c A^2) X, A = X X^T.
struct Quintic {
  float a, b, c;
};
inline constexpr int kMuonIterations = 5;
extern const Quintic kNewtonSchulz[kMuonIterations];  // Jordan's, equal in every iteration
extern const Quintic
    kPolarExpress[kMuonIterations];  // Amsel et al., arXiv 2505.16932, as nanochat truncates them

// m += (1-beta)(s g - m); u = s g + beta (m - s g): lerp momentum with Nesterov's look-ahead, n
// elements.
void muon_momentum(int64_t n, float grad_scale, float beta, const float* g, float* m, float* u);

// y [cols, rows] = x [rows, cols]^T
void transpose_dense(int64_t rows, int64_t cols, const float* x, float* y);

// Rows [begin, end) and columns [0, end) of A [r, r] = X X^T with X [r, c]: the caller covers the
// lower triangle.
void gram_rows(int64_t r, int64_t c, const float* x, int64_t begin, int64_t end, float* a);
// Rows [begin, end) and columns [0, end) of out [r, r] = A B for A and B whose product is
// symmetric.
void symmetric_product_rows(int64_t r, const float* a, const float* b, int64_t begin, int64_t end,
                            float* out);
// Rows [begin, end) and columns [0, end) of Q [r, r] = q.a I + q.b A + q.c A A for a symmetric A.
void quintic_rows(int64_t r, const Quintic& q, const float* a, int64_t begin, int64_t end,
                  float* out);
// Copies the part left of the diagonal blocks' rows [begin, end) to its mirror image: a[j, i] =
// a[i, j] for j < i.
void mirror_rows(int64_t r, float* a, int64_t begin, int64_t end);

// w = w (1 - decay) - lr o over n elements.
void muon_apply(int64_t n, float lr, float decay, const float* o, float* w);
// w -= lr o + lr wd w where o and w have one sign (cautious decay), else w -= lr o.
void muon_apply_cautious(int64_t n, float lr, float decay, const float* o, float* w);

}  // namespace braid
