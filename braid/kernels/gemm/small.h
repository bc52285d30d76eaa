#pragma once
// Small products inside chunks: just-in-time kernels of libxsmm for one fixed shape.

#include <cstdint>

namespace braid {

// C[m,n] (+)= A[m,k] B[k,n], all row-major with row strides lda, ldb, ldc; no transposes (libxsmm's
// fast path: pack a transposed operand first, transpose_f32 below). About 0.95 of the core's peak
// from 16x16x64 up.
class SmallGemm {
 public:
  SmallGemm() = default;
  // accumulate: beta = 1, else 0. Kernels are made once per shape and kept for the process; making
  // one is not for inner loops. Any size >= 1 works.
  SmallGemm(int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc,
            bool accumulate);
  void operator()(const float* a, const float* b, float* c) const {
    kernel_(b, a, c);  // libxsmm is column-major: (A B)^T = B^T A^T
  }

 private:
  using Kernel = void (*)(const float*, const float*, float*, ...);
  Kernel kernel_ = nullptr;
};

}  // namespace braid
