#pragma once

#include <cstdint>

#include "braid/core/context.h"
#include "braid/ops/step.h"

namespace braid {

// C[m,n] = op(A) op(B) + beta C as gemm_f32, in parallel over tiles of C whose sizes depend on (m,
// n, k) alone, so the result is bitwise equal for any thread count. Counts 2 m n k FLOPs. A few
// rows against a stored-transposed B (decode) go through the matrix-vector kernel instead.
void product(const Context& ctx, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
             const float* a, int64_t lda, const float* b, int64_t ldb, float beta, float* c,
             int64_t ldc);

// Up to here reading the weights once per row beats packing them.
constexpr int64_t kGemvRows = kStepTokens;

// How product cuts C [m, n]: near-square tiles, at least four when the work is worth splitting,
// none taller than the caches like.
struct ProductTile {
  int64_t m, n;
};
ProductTile product_tile(int64_t m, int64_t n, int64_t k);

}  // namespace braid
