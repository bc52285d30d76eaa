#pragma once
// f32 matrix products. Row-major throughout; ld* are row strides in elements.

#include <cstdint>

namespace braid {

// C[m,n] = op(A) op(B) + beta * C with op(A) [m,k], op(B) [k,n]; trans_a: A is stored [k,m],
// trans_b: B is stored [n,k] (a torch Linear weight). beta is 0 or 1. Runs on the calling thread
// only and is bitwise reproducible for equal arguments: callers split m and n into fixed tiles with
// parallel_for.  (oneDNN)
void gemm_f32(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, const float* a,
              int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

// The same product on as many threads as oneDNN likes (give_threads_to_libraries): what `bench`
// compares braid's own tiling with. Call it outside parallel_for.
void onednn_f32(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, const float* a,
                int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

// y[n] = W[n,k] x[k] for n in [begin, end): the decode product, bound by reading W once.  (Highway)
void gemv_f32(const float* w, int64_t ldw, int64_t k, const float* x, float* y, int64_t begin,
              int64_t end);

// The same with W in bf16: sums in the order of gemv_f32, so the result is that of the widened W.
void gemv_bf16(const uint16_t* w, int64_t ldw, int64_t k, const float* x, float* y, int64_t begin,
               int64_t end);

// bf16 is the upper half of an f32; narrowing rounds to nearest, ties to even, and keeps NaN.
void widen_bf16(const uint16_t* x, int64_t n, float* out);
void narrow_to_bf16(const float* x, int64_t n, uint16_t* out);

}  // namespace braid
