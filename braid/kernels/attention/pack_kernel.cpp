#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/attention/pack_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "braid/kernels/attention/pack.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // other kernel families use the same short names

namespace hn = hwy::HWY_NAMESPACE;

// to[c * ldt + r] = scale * from[r * ldf + c] for r < rows, c < cols, in 4 x 4 squares.
void transpose(const float* HWY_RESTRICT from, int64_t ldf, int64_t rows, int64_t cols, float scale,
               float* HWY_RESTRICT to, int64_t ldt) {
  const hn::FixedTag<float, 4> d;
  const hn::RepartitionToWide<decltype(d)> dw;
  const auto s = hn::Set(d, scale);
  const int64_t whole_rows = rows & ~int64_t{3}, whole_cols = cols & ~int64_t{3};
  for (int64_t r = 0; r < whole_rows; r += 4) {
    const float* f = from + r * ldf;
    for (int64_t c = 0; c < whole_cols; c += 4) {
      const auto a0 = hn::Mul(hn::LoadU(d, f + c), s);
      const auto a1 = hn::Mul(hn::LoadU(d, f + ldf + c), s);
      const auto a2 = hn::Mul(hn::LoadU(d, f + 2 * ldf + c), s);
      const auto a3 = hn::Mul(hn::LoadU(d, f + 3 * ldf + c), s);
      const auto b0 = hn::BitCast(dw, hn::InterleaveLower(d, a0, a1));
      const auto b1 = hn::BitCast(dw, hn::InterleaveLower(d, a2, a3));
      const auto b2 = hn::BitCast(dw, hn::InterleaveUpper(d, a0, a1));
      const auto b3 = hn::BitCast(dw, hn::InterleaveUpper(d, a2, a3));
      float* t = to + c * ldt + r;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, b0, b1)), d, t);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, b0, b1)), d, t + ldt);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, b2, b3)), d, t + 2 * ldt);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, b2, b3)), d, t + 3 * ldt);
    }
    for (int64_t c = whole_cols; c < cols; ++c) {
      for (int64_t i = 0; i < 4; ++i) to[c * ldt + r + i] = scale * f[i * ldf + c];
    }
  }
  for (int64_t r = whole_rows; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) to[c * ldt + r] = scale * from[r * ldf + c];
  }
}

void copy_rows(const float* HWY_RESTRICT from, int64_t ldf, int64_t rows, int64_t cols, float scale,
               float* HWY_RESTRICT to) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto s = hn::Set(d, scale);
  for (int64_t r = 0; r < rows; ++r, from += ldf, to += cols) {
    int64_t c = 0;
    for (; c + lanes <= cols; c += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, from + c), s), d, to + c);
    for (; c < cols; ++c) to[c] = scale * from[c];
  }
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(transpose);
HWY_EXPORT(copy_rows);

void pack_columns(const float* from, int64_t ld, int64_t rows, int64_t d, int64_t begin,
                  float* to) {
  HWY_DYNAMIC_DISPATCH(transpose)(from, ld, rows, d, 1.0f, to + begin, kKvTile);
}

void turn_rows(const float* from, int64_t ldf, int64_t rows, int64_t cols, float* to, int64_t ldt) {
  HWY_DYNAMIC_DISPATCH(transpose)(from, ldf, rows, cols, 1.0f, to, ldt);
}

void pack_rows(const float* from, int64_t ld, int64_t rows, int64_t d, float scale, float* to) {
  HWY_DYNAMIC_DISPATCH(copy_rows)(from, ld, rows, d, scale, to);
}

void unpack_columns(const float* from, int64_t rows, int64_t d, float scale, float* to,
                    int64_t ld) {
  HWY_DYNAMIC_DISPATCH(transpose)(from, kKvTile, d, rows, scale, to, ld);
}

}  // namespace braid
#endif
