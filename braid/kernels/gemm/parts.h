#pragma once
// Products of f32 by matrix tiles of bf16 (simd/amx.h). An f32 number is exactly the sum of three
// bf16 numbers: its upper 8 bits, the next 8, the rest. A product adds up the products of parts
// that matter to an f32, small ones first: six of nine, which leaves out less than 2^-22 of each
// term and 2^-24 of most. A number that is a bf16 has one part, which leaves three products.
// Rounding is about that of a sum in f32. Where 16 bits of the operands suffice two parts do: three
// products.
//
// An infinity has no parts: where one meets a product the result is NaN. Parts below 2^-126 count
// as zero.

#include <cstdint>

namespace braid {

// Parts of the operands: 3 x 3, or 3 x 1 where the right one is bf16, or 2 x 2 and 2 x 1.
struct PartCounts {
  int left = 3, right = 3;
};

// Operands lie in tiles of 1 KiB: 16 rows of 32 numbers on the left, 16 columns of 32 on the right.
constexpr int64_t kPartRows = 16, kPartDepth = 32;
constexpr int64_t parts_tiles(int64_t n, int64_t k) {
  return (n + kPartRows - 1) / kPartRows * (k / kPartDepth);
}
// Floats that `parts` parts of [n, k] or [k, n] take, k a multiple of kPartDepth.
constexpr int64_t parts_floats(int parts, int64_t n, int64_t k) {
  return parts * parts_tiles(n, k) * 256;
}

// a[rows, k] times `scale` (row stride ld) as a left operand; missing rows of its last tile are
// zero.
void split_left(PartCounts parts, const float* a, int64_t ld, int64_t rows, int64_t k, float scale,
                float* to);

// b[k, n] (row stride ld), n a multiple of 16, as a right operand.
void split_right(PartCounts parts, const float* b, int64_t ld, int64_t k, int64_t n, float* to);

// b = w^T for bf16 w[n, k] (row stride ld) as a right operand of one part; n is any, missing
// columns of the last tile are zero.
void turn_right(const uint16_t* w, int64_t ld, int64_t k, int64_t n, float* to);

// c[m, n] = a b, or c + a b; m and n are multiples of 16, c's row stride is ldc. A row of c depends
// on its row of a alone.
void multiply_parts(PartCounts parts, int64_t m, int64_t n, int64_t k, const float* a,
                    const float* b, bool add, float* c, int64_t ldc);

}  // namespace braid
