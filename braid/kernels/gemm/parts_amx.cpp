#include "braid/kernels/gemm/parts.h"

// gcc 12 warns about operands that its own header leaves undefined on purpose.
#ifndef __clang__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#ifndef __clang__
#pragma GCC diagnostic pop
#endif

#include "braid/kernels/simd/amx.h"

namespace braid {
namespace {

constexpr int64_t kTile = 256;  // floats of 1 KiB

// Tiles 0 to 3 are two by two of c, 4 and 5 of a, 6 and 7 of b, all of 16 rows of 64 bytes.
constexpr AmxShapes kShapes = [] {
  AmxShapes s;
  for (int i = 0; i < 8; ++i) s.rows[i] = 16, s.row_bytes[i] = 64;
  return s;
}();

// The upper halves of the parts' bits are bf16; the last of three holds nothing else. Of three the
// first two are cut off, so that nothing is left over; of two both are rounded.
template <int kParts>
struct Parts {
  __m512 of[kParts];
};

template <int kParts>
BRAID_AMX_CODE inline Parts<kParts> parts_of(__m512 x) {
  const __m512 upper = _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(0xFFFF0000u)));
  const auto cut = [&](__m512 v) BRAID_AMX_CODE { return _mm512_and_ps(v, upper); };
  const auto rounded = [&](__m512 v) BRAID_AMX_CODE {
    // Nothing is added to infinities and NaN, whose bits would become those of a number, nor where
    // the sum would be infinite.
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i size = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF));
    const __mmask16 small = _mm512_cmplt_epi32_mask(size, _mm512_set1_epi32(0x7F7F8000));
    return _mm512_castsi512_ps(_mm512_mask_add_epi32(bits, small, bits, _mm512_set1_epi32(0x8000)));
  };
  Parts<kParts> p;
  if constexpr (kParts == 1) {
    p.of[0] = x;
  } else if constexpr (kParts == 2) {
    p.of[0] = cut(rounded(x));
    p.of[1] = rounded(_mm512_sub_ps(x, p.of[0]));
  } else {
    p.of[0] = cut(x);
    const __m512 rest = _mm512_sub_ps(x, p.of[0]);
    p.of[1] = cut(rest);
    p.of[2] = _mm512_sub_ps(rest, p.of[1]);
  }
  return p;
}

// The upper 16 bits of every number of x and y: where `order` says.
BRAID_AMX_CODE inline __m512i upper_halves(__m512 x, __m512i order, __m512 y) {
  return _mm512_permutex2var_epi16(_mm512_castps_si512(x), order, _mm512_castps_si512(y));
}

// Number i of the result is the upper half of number i of x, then of y.
BRAID_AMX_CODE inline __m512i one_after_the_other() {
  alignas(64) uint16_t from[32];
  for (int i = 0; i < 32; ++i) from[i] = static_cast<uint16_t>(2 * i + 1);
  return _mm512_load_si512(from);
}

// Numbers of x and y in turn.
BRAID_AMX_CODE inline __m512i in_turn() {
  alignas(64) uint16_t from[32];
  for (int i = 0; i < 32; ++i) from[i] = static_cast<uint16_t>(i / 2 * 2 + 1 + i % 2 * 32);
  return _mm512_load_si512(from);
}

template <int kParts>
BRAID_AMX_CODE void split_columns(const float* b, int64_t ld, int64_t k, int64_t n, float* to) {
  const __m512i order = in_turn();
  const int64_t part = parts_tiles(n, k) * kTile;
  for (int64_t c = 0; c < n; c += kPartRows) {
    for (int64_t i = 0; i < k; i += 2, to += 16) {
      const float* row = b + i * ld + c;
      const Parts<kParts> even = parts_of<kParts>(_mm512_loadu_ps(row));
      const Parts<kParts> odd = parts_of<kParts>(_mm512_loadu_ps(row + ld));
#pragma GCC unroll 3
      for (int p = 0; p < kParts; ++p)
        _mm512_storeu_si512(to + p * part, upper_halves(even.of[p], order, odd.of[p]));
    }
  }
}

template <int kParts>
BRAID_AMX_CODE void split_rows(const float* a, int64_t ld, int64_t rows, int64_t k, float scale,
                               float* parts) {
  const __m512i order = one_after_the_other();
  const __m512 by = _mm512_set1_ps(scale);
  const int64_t part = parts_tiles(rows, k) * kTile, tiles = k / kPartDepth;
  for (int64_t r = 0; r < (rows + kPartRows - 1) / kPartRows * kPartRows; ++r) {
    float* to = parts + r / kPartRows * tiles * kTile + r % kPartRows * 16;
    for (int64_t i = 0; i < k; i += kPartDepth, to += kTile) {
      const bool there = r < rows;
      const float* from = a + r * ld + i;
      const __m512 x = there ? _mm512_mul_ps(_mm512_loadu_ps(from), by) : _mm512_setzero_ps();
      const __m512 y = there ? _mm512_mul_ps(_mm512_loadu_ps(from + 16), by) : _mm512_setzero_ps();
      const Parts<kParts> px = parts_of<kParts>(x), py = parts_of<kParts>(y);
#pragma GCC unroll 3
      for (int p = 0; p < kParts; ++p)
        _mm512_storeu_si512(to + p * part, upper_halves(px.of[p], order, py.of[p]));
    }
  }
}

// Square [i][j] of 32-bit words becomes [j][i].
BRAID_AMX_CODE inline void transpose(__m512i (&r)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  // Column c of rows 4 g to 4 g + 3 of every quarter, in r[4 g + c].
#pragma GCC unroll 4
  for (int g = 0; g < 16; g += 4) {
    r[g] = _mm512_unpacklo_epi64(t[g], t[g + 2]);
    r[g + 1] = _mm512_unpackhi_epi64(t[g], t[g + 2]);
    r[g + 2] = _mm512_unpacklo_epi64(t[g + 1], t[g + 3]);
    r[g + 3] = _mm512_unpackhi_epi64(t[g + 1], t[g + 3]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512i low01 = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x88);
    const __m512i low13 = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xDD);
    const __m512i high01 = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x88);
    const __m512i high13 = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xDD);
    t[c] = _mm512_shuffle_i32x4(low01, high01, 0x88);
    t[4 + c] = _mm512_shuffle_i32x4(low13, high13, 0x88);
    t[8 + c] = _mm512_shuffle_i32x4(low01, high01, 0xDD);
    t[12 + c] = _mm512_shuffle_i32x4(low13, high13, 0xDD);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

BRAID_AMX_CODE inline void store_transposed(__m512i (&rows)[16], float* to) {
  transpose(rows);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + i * 16, rows[i]);
}

template <int kM>
inline void load_left(const float* a, int64_t next) {
  amx_load<4>(a, 64);
  if constexpr (kM == 2) amx_load<5>(a + next, 64);
}
template <int kN>
inline void load_right(const float* b, int64_t next) {
  amx_load<6>(b, 64);
  if constexpr (kN == 2) amx_load<7>(b + next, 64);
}
// c += the loaded part of a times that of b.
template <int kM, int kN>
inline void multiply() {
  amx_bf16<0, 4, 6>();
  if constexpr (kN == 2) amx_bf16<1, 4, 7>();
  if constexpr (kM == 2) amx_bf16<2, 5, 6>();
  if constexpr (kM == 2 && kN == 2) amx_bf16<3, 5, 7>();
}

template <int kM, int kN>
inline void begin_tiles(bool add, const float* c, int64_t ldc) {
  const int64_t row = ldc * 4, down = 16 * ldc;
  if (add) {
    amx_load<0>(c, row);
    if constexpr (kN == 2) amx_load<1>(c + 16, row);
    if constexpr (kM == 2) amx_load<2>(c + down, row);
    if constexpr (kM == 2 && kN == 2) amx_load<3>(c + down + 16, row);
    return;
  }
  amx_zero<0>();
  if constexpr (kN == 2) amx_zero<1>();
  if constexpr (kM == 2) amx_zero<2>();
  if constexpr (kM == 2 && kN == 2) amx_zero<3>();
}

template <int kM, int kN>
inline void end_tiles(float* c, int64_t ldc) {
  const int64_t row = ldc * 4, down = 16 * ldc;
  amx_store<0>(c, row);
  if constexpr (kN == 2) amx_store<1>(c + 16, row);
  if constexpr (kM == 2) amx_store<2>(c + down, row);
  if constexpr (kM == 2 && kN == 2) amx_store<3>(c + down + 16, row);
}

struct Operands {
  PartCounts parts;
  const float *a, *b;
  int64_t a_part, b_part, steps;
};

// The products of 32 numbers of k that are small, each operand loaded as seldom as it can be.
template <int kM, int kN>
inline void multiply_small(const Operands& o, const float* a, const float* b, int64_t next) {
  if (o.parts.right == 1) {
    load_right<kN>(b, next);
    for (int i = o.parts.left - 1; i > 0; --i) {
      load_left<kM>(a + i * o.a_part, next);
      multiply<kM, kN>();
    }
    return;
  }
  load_left<kM>(a, next);
  if (o.parts.right == 3) {
    load_right<kN>(b + 2 * o.b_part, next);
    multiply<kM, kN>();
  }
  load_right<kN>(b + o.b_part, next);
  multiply<kM, kN>();
  load_left<kM>(a + o.a_part, next);
  if (o.parts.right == 3) multiply<kM, kN>();
  load_right<kN>(b, next);
  multiply<kM, kN>();
  if (o.parts.right == 3) {
    load_left<kM>(a + 2 * o.a_part, next);
    multiply<kM, kN>();
  }
}

template <int kM, int kN>
void multiply_tiles(const Operands& o, const float* a, const float* b, bool add, float* c,
                    int64_t ldc) {
  const int64_t next = o.steps * kTile;
  begin_tiles<kM, kN>(add, c, ldc);
  // Sums of small products first: rounding then happens at their own size.
  for (int64_t i = 0; i < o.steps; ++i)
    multiply_small<kM, kN>(o, a + i * kTile, b + i * kTile, next);
  for (int64_t i = 0; i < o.steps; ++i) {
    load_left<kM>(a + i * kTile, next);
    load_right<kN>(b + i * kTile, next);
    multiply<kM, kN>();
  }
  end_tiles<kM, kN>(c, ldc);
}

// Rows from r on and columns from j on, up to 32 of either.
void multiply_block(const Operands& o, int64_t m, int64_t n, int64_t r, int64_t j, bool add,
                    float* c, int64_t ldc) {
  const float* a = o.a + r / kPartRows * o.steps * kTile;
  const float* b = o.b + j / kPartRows * o.steps * kTile;
  c += r * ldc + j;
  if (r + 32 <= m) {
    if (j + 32 <= n) return multiply_tiles<2, 2>(o, a, b, add, c, ldc);
    return multiply_tiles<2, 1>(o, a, b, add, c, ldc);
  }
  if (j + 32 <= n) return multiply_tiles<1, 2>(o, a, b, add, c, ldc);
  multiply_tiles<1, 1>(o, a, b, add, c, ldc);
}

}  // namespace

void split_left(PartCounts parts, const float* a, int64_t ld, int64_t rows, int64_t k, float scale,
                float* to) {
  if (parts.left == 2) return split_rows<2>(a, ld, rows, k, scale, to);
  split_rows<3>(a, ld, rows, k, scale, to);
}

void split_right(PartCounts parts, const float* b, int64_t ld, int64_t k, int64_t n, float* to) {
  if (parts.right == 1) return split_columns<1>(b, ld, k, n, to);
  if (parts.right == 2) return split_columns<2>(b, ld, k, n, to);
  split_columns<3>(b, ld, k, n, to);
}

BRAID_AMX_CODE void turn_right(const uint16_t* w, int64_t ld, int64_t k, int64_t n, float* to) {
  for (int64_t c = 0; c < n; c += kPartRows) {
    for (int64_t i = 0; i < k; i += kPartDepth, to += kTile) {
      __m512i rows[16];
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r) {
        rows[r] = c + r < n ? _mm512_loadu_si512(w + (c + r) * ld + i) : _mm512_setzero_si512();
      }
      store_transposed(rows, to);
    }
  }
}

void multiply_parts(PartCounts parts, int64_t m, int64_t n, int64_t k, const float* a,
                    const float* b, bool add, float* c, int64_t ldc) {
  const Operands o{parts,         a, b, parts_tiles(m, k) * kTile, parts_tiles(n, k) * kTile,
                   k / kPartDepth};
  amx_begin(kShapes);
  // The operand with more parts stays in the first cache, the other one comes past.
  if (parts.left > parts.right) {
    for (int64_t r = 0; r < m; r += 32) {
      for (int64_t j = 0; j < n; j += 32) multiply_block(o, m, n, r, j, add, c, ldc);
    }
  } else {
    for (int64_t j = 0; j < n; j += 32) {
      for (int64_t r = 0; r < m; r += 32) multiply_block(o, m, n, r, j, add, c, ldc);
    }
  }
  amx_end();
}

}  // namespace braid
