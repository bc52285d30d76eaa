#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/delta/delta_tile_kernel.cpp"
#include <hwy/foreach_target.h>
// After foreach_target, which sets the target for what follows.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "braid/kernels/delta/delta_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

namespace {

// Four floats of each of the rows 0, 4, 8, ... from a[0]: one 128-bit block per row.
HWY_INLINE V gather_blocks(const float* a, int64_t lda) {
  const hn::FixedTag<float, 4> d4;
#if HWY_MAX_BYTES >= 64
  const hn::FixedTag<float, 8> d8;
  const auto low = hn::Combine(d8, hn::LoadU(d4, a + 4 * lda), hn::LoadU(d4, a));
  const auto high = hn::Combine(d8, hn::LoadU(d4, a + 12 * lda), hn::LoadU(d4, a + 8 * lda));
  return hn::Combine(D(), high, low);
#elif HWY_MAX_BYTES >= 32
  return hn::Combine(D(), hn::LoadU(d4, a + 4 * lda), hn::LoadU(d4, a));
#else
  (void)lda;
  return hn::LoadU(d4, a);
#endif
}

void transpose(int64_t rows, int64_t cols, const float* a, int64_t lda, float* b, int64_t ldb) {
  const hn::Repartition<double, D> wide;
  for (int64_t i = 0; i < rows; i += kLanes) {
    for (int64_t j = 0; j < cols; j += 4) {
      const float* from = a + i * lda + j;
      // Each 128-bit block holds a 4 x 4 tile: transposed by two rounds of interleaving.
      const V r0 = gather_blocks(from, lda), r1 = gather_blocks(from + lda, lda);
      const V r2 = gather_blocks(from + 2 * lda, lda), r3 = gather_blocks(from + 3 * lda, lda);
      const auto a01 = hn::BitCast(wide, hn::InterleaveLower(D(), r0, r1));
      const auto b01 = hn::BitCast(wide, hn::InterleaveUpper(D(), r0, r1));
      const auto a23 = hn::BitCast(wide, hn::InterleaveLower(D(), r2, r3));
      const auto b23 = hn::BitCast(wide, hn::InterleaveUpper(D(), r2, r3));
      float* to = b + j * ldb + i;
      store(hn::BitCast(D(), hn::InterleaveLower(wide, a01, a23)), to);
      store(hn::BitCast(D(), hn::InterleaveUpper(wide, a01, a23)), to + ldb);
      store(hn::BitCast(D(), hn::InterleaveLower(wide, b01, b23)), to + 2 * ldb);
      store(hn::BitCast(D(), hn::InterleaveUpper(wide, b01, b23)), to + 3 * ldb);
    }
  }
}

void exponentials(int64_t count, float* x) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const V g = load(x + i);  // a NaN stays one
    store(hn::IfThenElse(hn::IsNaN(g), g, hn::Exp(D(), hn::Max(g, all(-1e4f)))), x + i);
  }
}

void decay_matrix(int64_t n, const double* sums, float* l, int64_t ld) {
  for (int64_t i = 0; i < n * kBlock; ++i) {
    const int64_t width = (i / kBlock + 1) * kBlock;
    float* row = l + i * ld;
    for (int64_t j = 0; j < width; ++j) row[j] = static_cast<float>(sums[i] - sums[j]);
    for (int64_t j = 0; j < width; j += kLanes) {
      // Right of the diagonal differences are >= 0: clamped before the exponential, then dropped.
      const V g = load(row + j);
      const V finite = hn::Exp(D(), hn::Max(hn::Min(g, all(0.0f)), all(-1e4f)));
      const V e = hn::IfThenElse(hn::IsNaN(g), g, finite);
      const auto inside = hn::FirstN(D(), static_cast<size_t>(i >= j ? i - j + 1 : 0));
      store(hn::IfThenElseZero(inside, e), row + j);
    }
  }
}

// Channels [d, d + kVectors * lanes) of delta_diagonal, added to what the scores hold when `add`.
template <int kVectors, bool kErase>
void diagonal_channels(int64_t kp, bool pre, const float* HWY_RESTRICT alpha,
                       const float* HWY_RESTRICT q, const float* HWY_RESTRICT r,
                       const float* HWY_RESTRICT k, float* HWY_RESTRICT erase,
                       float* HWY_RESTRICT read, int64_t ld, bool add) {
  for (int64_t j = 0; j < kBlock; ++j) {
    V z[kVectors];
    for (int c = 0; c < kVectors; ++c) z[c] = load(k + j * kp + c * kLanes);
    for (int64_t i = j; i < kBlock; ++i) {
      V read_sum = hn::Zero(D()), erase_sum = hn::Zero(D());
      const bool below = i > j;
      HWY_UNROLL(8)
      for (int c = 0; c < kVectors; ++c) {
        const int64_t at = i * kp + c * kLanes;
        if (kErase && pre) erase_sum = hn::MulAdd(load(r + at), z[c], erase_sum);
        if (below) z[c] = hn::Mul(z[c], load(alpha + at));
        if (kErase && !pre) erase_sum = hn::MulAdd(load(r + at), z[c], erase_sum);
        read_sum = hn::MulAdd(load(q + at), z[c], read_sum);
      }
      const float old_read = add ? read[i * ld + j] : 0.0f;
      read[i * ld + j] = old_read + hn::GetLane(hn::SumOfLanes(D(), read_sum));
      if (kErase) {
        const float old_erase = add ? erase[i * ld + j] : 0.0f;
        erase[i * ld + j] = below ? old_erase + hn::GetLane(hn::SumOfLanes(D(), erase_sum)) : 0.0f;
      }
    }
  }
}

template <bool kErase>
void diagonal_of(int64_t kp, bool pre, const float* alpha, const float* q, const float* r,
                 const float* k, float* erase, float* read, int64_t ld) {
  constexpr int kWide = 8;
  for (int64_t i = 0; i < kBlock; ++i) {
    for (int64_t j = i + 1; j < kBlock; ++j) {
      read[i * ld + j] = 0.0f;
      if (kErase) erase[i * ld + j] = 0.0f;
    }
  }
  int64_t d = 0;
  const float* rd = kErase ? r : q;
  for (; d + kWide * kLanes <= kp; d += kWide * kLanes) {
    diagonal_channels<kWide, kErase>(kp, pre, alpha + d, q + d, rd + d, k + d, erase, read, ld,
                                     d > 0);
  }
  for (; d < kp; d += kLanes) {
    diagonal_channels<1, kErase>(kp, pre, alpha + d, q + d, rd + d, k + d, erase, read, ld, d > 0);
  }
}

void diagonal(int64_t kp, bool pre, const float* alpha, const float* q, const float* r,
              const float* k, float* erase, float* read, int64_t ld) {
  if (r != nullptr) {
    diagonal_of<true>(kp, pre, alpha, q, r, k, erase, read, ld);
  } else {
    diagonal_of<false>(kp, pre, alpha, q, r, k, erase, read, ld);
  }
}

template <bool kErase>
void diagonal_backward_of(int64_t kp, bool pre, const float* HWY_RESTRICT alpha,
                          const float* HWY_RESTRICT q, const float* HWY_RESTRICT r,
                          const float* HWY_RESTRICT k, const float* HWY_RESTRICT d_erase,
                          const float* HWY_RESTRICT d_read, int64_t ld, float* HWY_RESTRICT dq,
                          float* HWY_RESTRICT dr, float* HWY_RESTRICT dk) {
  for (int64_t d = 0; d < kp; d += kLanes) {
    V z[kBlock];  // keys decayed to row i
    z[0] = load(k + d);
    for (int64_t i = 1; i < kBlock; ++i) {
      const V a = load(alpha + i * kp + d);
      V to_q = load(dq + i * kp + d), to_r = kErase ? load(dr + i * kp + d) : hn::Zero(D());
      for (int64_t j = 0; j < i; ++j) {
        const V decayed = hn::Mul(z[j], a);
        to_q = hn::MulAdd(all(d_read[i * ld + j]), decayed, to_q);
        if (kErase) to_r = hn::MulAdd(all(d_erase[i * ld + j]), pre ? z[j] : decayed, to_r);
        z[j] = decayed;
      }
      z[i] = load(k + i * kp + d);
      store(to_q, dq + i * kp + d);
      if (kErase) store(to_r, dr + i * kp + d);
    }
    V y[kBlock];  // what rows >= i send to key j, decayed down to row i - 1
    for (int64_t j = 0; j < kBlock; ++j) y[j] = hn::Zero(D());
    for (int64_t i = kBlock - 1; i > 0; --i) {
      const V a = load(alpha + i * kp + d), qi = load(q + i * kp + d);
      const V ri = kErase ? load(r + i * kp + d) : qi;
      for (int64_t j = 0; j < i; ++j) {
        V sum = hn::MulAdd(all(d_read[i * ld + j]), qi, y[j]);
        if (kErase && !pre) sum = hn::MulAdd(all(d_erase[i * ld + j]), ri, sum);
        sum = hn::Mul(sum, a);
        if (kErase && pre) sum = hn::MulAdd(all(d_erase[i * ld + j]), ri, sum);
        y[j] = sum;
      }
    }
    for (int64_t j = 0; j < kBlock; ++j)
      store(hn::Add(load(dk + j * kp + d), y[j]), dk + j * kp + d);
  }
}

void diagonal_backward(int64_t kp, bool pre, const float* alpha, const float* q, const float* r,
                       const float* k, const float* d_erase, const float* d_read, int64_t ld,
                       float* dq, float* dr, float* dk) {
  if (r != nullptr) {
    diagonal_backward_of<true>(kp, pre, alpha, q, r, k, d_erase, d_read, ld, dq, dr, dk);
  } else {
    diagonal_backward_of<false>(kp, pre, alpha, q, r, k, d_erase, d_read, ld, dq, dr, dk);
  }
}

void solve(int64_t n, int64_t vp, const float* HWY_RESTRICT a, int64_t ld, float* HWY_RESTRICT x) {
  for (int64_t b = 0; b < n; ++b) {
    const float* rows = a + b * kBlock * ld;
    for (int64_t e = 0; e < vp; e += kLanes) {
      float* column = x + e;
      V u[kBlock];
      HWY_UNROLL(16)
      for (int i = 0; i < kBlock; ++i) u[i] = load(column + (b * kBlock + i) * vp);
      for (int64_t j = 0; j < b * kBlock; ++j) {
        const V known = load(column + j * vp);
        HWY_UNROLL(16)
        for (int i = 0; i < kBlock; ++i) u[i] = hn::NegMulAdd(all(rows[i * ld + j]), known, u[i]);
      }
      const float* square = rows + b * kBlock;
      HWY_UNROLL(16)
      for (int j = 0; j < kBlock; ++j) {
        HWY_UNROLL(16)
        for (int i = 0; i < kBlock; ++i) {
          if (i > j) u[i] = hn::NegMulAdd(all(square[i * ld + j]), u[j], u[i]);
        }
      }
      HWY_UNROLL(16)
      for (int i = 0; i < kBlock; ++i) store(u[i], column + (b * kBlock + i) * vp);
    }
  }
}

void solve_transposed(int64_t n, int64_t vp, const float* HWY_RESTRICT a, int64_t ld,
                      float* HWY_RESTRICT x) {
  for (int64_t b = n - 1; b >= 0; --b) {
    const float* columns = a + b * kBlock;
    for (int64_t e = 0; e < vp; e += kLanes) {
      float* column = x + e;
      V u[kBlock];
      HWY_UNROLL(16)
      for (int i = 0; i < kBlock; ++i) u[i] = load(column + (b * kBlock + i) * vp);
      for (int64_t j = (b + 1) * kBlock; j < n * kBlock; ++j) {
        const V known = load(column + j * vp);  // already negated
        HWY_UNROLL(16)
        for (int i = 0; i < kBlock; ++i) u[i] = hn::MulAdd(all(columns[j * ld + i]), known, u[i]);
      }
      const float* square = columns + b * kBlock * ld;
      HWY_UNROLL(16)
      for (int j = kBlock - 1; j >= 0; --j) {
        HWY_UNROLL(16)
        for (int i = 0; i < kBlock; ++i) {
          if (i < j) u[i] = hn::NegMulAdd(all(square[j * ld + i]), u[j], u[i]);
        }
      }
      HWY_UNROLL(16)
      for (int i = 0; i < kBlock; ++i) store(hn::Neg(u[i]), column + (b * kBlock + i) * vp);
    }
  }
}

void scale_all(int64_t count, float factor, float* x) {
  const V f = all(factor);
  for (int64_t i = 0; i < count; i += kLanes) store(hn::Mul(load(x + i), f), x + i);
}

void scale_rows(int64_t rows, int64_t cols, const float* factors, float* x, int64_t ld) {
  for (int64_t i = 0; i < rows; ++i) {
    const V f = all(factors[i]);
    for (int64_t e = 0; e < cols; e += kLanes)
      store(hn::Mul(f, load(x + i * ld + e)), x + i * ld + e);
  }
}

void scale_columns(int64_t rows, int64_t cols, const float* row, float* x) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t d = 0; d < cols; d += kLanes)
      store(hn::Mul(load(x + i * cols + d), load(row + d)), x + i * cols + d);
  }
}

void row_dots(int64_t rows, int64_t cols, const float* a, const float* b, float* sums) {
  for (int64_t i = 0; i < rows; ++i) {
    V s = hn::Zero(D());
    for (int64_t e = 0; e < cols; e += kLanes)
      s = hn::MulAdd(load(a + i * cols + e), load(b + i * cols + e), s);
    sums[i] = hn::GetLane(hn::SumOfLanes(D(), s));
  }
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(transpose);
HWY_EXPORT(exponentials);
HWY_EXPORT(decay_matrix);
HWY_EXPORT(diagonal);
HWY_EXPORT(diagonal_backward);
HWY_EXPORT(solve);
HWY_EXPORT(solve_transposed);
HWY_EXPORT(scale_all);
HWY_EXPORT(scale_rows);
HWY_EXPORT(scale_columns);
HWY_EXPORT(row_dots);

void delta_transpose(int64_t rows, int64_t cols, const float* a, int64_t lda, float* b,
                     int64_t ldb) {
  HWY_DYNAMIC_DISPATCH(transpose)(rows, cols, a, lda, b, ldb);
}

void delta_exp(int64_t count, float* x) { HWY_DYNAMIC_DISPATCH(exponentials)(count, x); }

void delta_decay_matrix(int64_t n, const double* sums, float* l, int64_t ld) {
  HWY_DYNAMIC_DISPATCH(decay_matrix)(n, sums, l, ld);
}

void delta_diagonal(int64_t kp, bool pre, const float* alpha, const float* q, const float* r,
                    const float* k, float* erase, float* read, int64_t ld) {
  HWY_DYNAMIC_DISPATCH(diagonal)(kp, pre, alpha, q, r, k, erase, read, ld);
}

void delta_diagonal_backward(int64_t kp, bool pre, const float* alpha, const float* q,
                             const float* r, const float* k, const float* d_erase,
                             const float* d_read, int64_t ld, float* dq, float* dr, float* dk) {
  HWY_DYNAMIC_DISPATCH(diagonal_backward)
  (kp, pre, alpha, q, r, k, d_erase, d_read, ld, dq, dr, dk);
}

void delta_solve(int64_t n, int64_t vp, const float* a, int64_t ld, float* x) {
  HWY_DYNAMIC_DISPATCH(solve)(n, vp, a, ld, x);
}

void delta_solve_transposed(int64_t n, int64_t vp, const float* a, int64_t ld, float* x) {
  HWY_DYNAMIC_DISPATCH(solve_transposed)(n, vp, a, ld, x);
}

void delta_scale_all(int64_t count, float factor, float* x) {
  HWY_DYNAMIC_DISPATCH(scale_all)(count, factor, x);
}

void delta_scale_rows(int64_t rows, int64_t cols, const float* factors, float* x, int64_t ld) {
  HWY_DYNAMIC_DISPATCH(scale_rows)(rows, cols, factors, x, ld);
}

void delta_scale_columns(int64_t rows, int64_t cols, const float* row, float* x) {
  HWY_DYNAMIC_DISPATCH(scale_columns)(rows, cols, row, x);
}

void delta_row_dots(int64_t rows, int64_t cols, const float* a, const float* b, float* sums) {
  HWY_DYNAMIC_DISPATCH(row_dots)(rows, cols, a, b, sums);
}

}  // namespace braid
#endif
