#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/rope/rope_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "braid/kernels/rope/rope.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // other kernel families use the same short names

namespace hn = hwy::HWY_NAMESPACE;

template <bool kInterleaved>
void rotate(const float* HWY_RESTRICT x, const float* cosine, const float* sine, int64_t pairs,
            float sign, float* HWY_RESTRICT y) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto s1 = hn::Set(d, sign);
  int64_t i = 0;
  for (; i + lanes <= pairs; i += lanes) {
    hn::Vec<decltype(d)> a, b;
    if constexpr (kInterleaved) {
      hn::LoadInterleaved2(d, x + 2 * i, a, b);
    } else {
      a = hn::LoadU(d, x + i);
      b = hn::LoadU(d, x + pairs + i);
    }
    const auto c = hn::LoadU(d, cosine + i), s = hn::Mul(s1, hn::LoadU(d, sine + i));
    const auto turned_a = hn::NegMulAdd(b, s, hn::Mul(a, c));
    const auto turned_b = hn::MulAdd(a, s, hn::Mul(b, c));
    if constexpr (kInterleaved) {
      hn::StoreInterleaved2(turned_a, turned_b, d, y + 2 * i);
    } else {
      hn::StoreU(turned_a, d, y + i);
      hn::StoreU(turned_b, d, y + pairs + i);
    }
  }
  for (; i < pairs; ++i) {
    const int64_t at = kInterleaved ? 2 * i : i, other = kInterleaved ? at + 1 : at + pairs;
    const float a = x[at], b = x[other], s = sign * sine[i];
    y[at] = a * cosine[i] - b * s;
    y[other] = b * cosine[i] + a * s;
  }
}

void rope(const float* x, int64_t ld_x, int64_t heads, int64_t d, int64_t first,
          const float* cosine, const float* sine, int64_t pairs, float sign, bool interleaved,
          float* y, int64_t ld_y) {
  const int64_t end = first + 2 * pairs;
  for (int64_t h = 0; h < heads; ++h, x += ld_x, y += ld_y) {
    std::copy(x, x + first, y);
    if (interleaved) {
      rotate<true>(x + first, cosine, sine, pairs, sign, y + first);
    } else {
      rotate<false>(x + first, cosine, sine, pairs, sign, y + first);
    }
    std::copy(x + end, x + d, y + end);
  }
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(rope);

void rope_f32(const float* x, int64_t ld_x, int64_t heads, int64_t d, int64_t first,
              const float* cosine, const float* sine, int64_t pairs, float sign, bool interleaved,
              float* y, int64_t ld_y) {
  HWY_DYNAMIC_DISPATCH(rope)
  (x, ld_x, heads, d, first, cosine, sine, pairs, sign, interleaved, y, ld_y);
}

}  // namespace braid
#endif
