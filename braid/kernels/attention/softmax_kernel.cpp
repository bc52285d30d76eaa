#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/attention/softmax_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "braid/kernels/attention/softmax.h"
#include "braid/kernels/simd/exp2_inl.h"
#include "braid/kernels/simd/tanh_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // other kernel families use the same short names

namespace hn = hwy::HWY_NAMESPACE;

// Stands in for the maximum of a row that has only masked keys so far, where -inf - -inf would be
// NaN.
constexpr float kNoKey = -1e30f;

void scale_row(float* HWY_RESTRICT x, int64_t n, float factor) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto f = hn::Set(d, factor);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, x + i), f), d, x + i);
  for (; i < n; ++i) x[i] *= factor;
}

void softmax_step(float* HWY_RESTRICT scores, int64_t tiles, int64_t rows, float* HWY_RESTRICT max,
                  float* HWY_RESTRICT sum, float* HWY_RESTRICT out, int64_t dim) {
  const hn::CappedTag<float, kKvTile> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < rows; ++r) {
    float* row = scores + r * kKvTile;
    auto top = hn::Set(d, max[r]), top2 = top;
    for (int64_t t = 0; t < tiles; ++t) {
      const float* s = row + t * kKvTile * kKvTile;
      for (int64_t c = 0; c < kKvTile; c += 2 * lanes) {
        top = hn::Max(top, hn::LoadU(d, s + c));
        top2 = hn::Max(top2, hn::LoadU(d, s + c + lanes));
      }
    }
    const float risen = std::max(hn::GetLane(hn::MaxOfLanes(d, hn::Max(top, top2))), kNoKey);
    const auto base = hn::Set(d, risen);
    auto total = hn::Zero(d), total2 = total;
    for (int64_t t = 0; t < tiles; ++t) {
      float* s = row + t * kKvTile * kKvTile;
      for (int64_t c = 0; c < kKvTile; c += 2 * lanes) {
        const auto p = exp2_fast(d, hn::Sub(hn::LoadU(d, s + c), base));
        const auto p2 = exp2_fast(d, hn::Sub(hn::LoadU(d, s + c + lanes), base));
        hn::StoreU(p, d, s + c);
        hn::StoreU(p2, d, s + c + lanes);
        total = hn::Add(total, p);
        total2 = hn::Add(total2, p2);
      }
    }
    const float added = hn::GetLane(hn::SumOfLanes(d, hn::Add(total, total2)));
    if (risen != max[r]) {
      const float fade = hn::GetLane(exp2_fast(d, hn::Set(d, max[r] - risen)));
      sum[r] *= fade;
      scale_row(out + r * dim, dim, fade);
      max[r] = risen;
    }
    sum[r] += added;
  }
}

void finish(const float* HWY_RESTRICT acc, const float* max, const float* sum, int64_t rows,
            int64_t dim, float* HWY_RESTRICT out, int64_t ld_out, float* lse) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < rows; ++r, acc += dim, out += ld_out) {
    const float inverse = sum[r] > 0.0f ? 1.0f / sum[r] : 0.0f;
    const auto f = hn::Set(d, inverse);
    int64_t c = 0;
    for (; c + lanes <= dim; c += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, acc + c), f), d, out + c);
    for (; c < dim; ++c) out[c] = acc[c] * inverse;
    if (lse != nullptr) lse[r] = max[r] + std::log2(sum[r]);
  }
}

void softcap(float* HWY_RESTRICT scores, int64_t count, float cap, float* HWY_RESTRICT slope) {
  const hn::CappedTag<float, 16> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto inverse = hn::Set(d, 1.0f / cap), c = hn::Set(d, cap), one = hn::Set(d, 1.0f);
  for (int64_t i = 0; i < count; i += lanes) {
    const auto t = tanh_fast(d, hn::Mul(hn::LoadU(d, scores + i), inverse));
    hn::StoreU(hn::Mul(t, c), d, scores + i);
    if (slope != nullptr) hn::StoreU(hn::NegMulAdd(t, t, one), d, slope + i);
  }
}

void backward_tile(const AttentionConfig& config, int64_t key, int64_t query,
                   const float* HWY_RESTRICT lse, const float* HWY_RESTRICT delta,
                   const float* HWY_RESTRICT slope, float* HWY_RESTRICT scores,
                   float* HWY_RESTRICT d_p) {
  const hn::CappedTag<float, kKvTile> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t c = 0; c < kKvTile; c += lanes) {
    const auto l = hn::LoadU(d, lse + c), dl = hn::LoadU(d, delta + c);
    float* s = scores + c;
    float* g = d_p + c;
    for (int64_t r = 0; r < kKvTile; ++r, s += kKvTile, g += kKvTile) {
      const auto p = exp2_fast(d, hn::Sub(hn::LoadU(d, s), l));
      hn::StoreU(p, d, s);
      auto ds = hn::Mul(p, hn::Sub(hn::LoadU(d, g), dl));
      if (slope != nullptr) ds = hn::Mul(ds, hn::LoadU(d, slope + c + r * kKvTile));
      hn::StoreU(ds, d, g);
    }
  }
  // Of these keys the first behind the prefix is out of sight first.
  const int64_t nearest = std::clamp(config.prefix, key, key + kKvTile - 1);
  if (key + kKvTile - 1 <= query && config.end_query(nearest) >= query + kKvTile) return;
  for (int64_t r = 0; r < kKvTile; ++r) {
    const int64_t begin = std::clamp<int64_t>(key + r - query, 0, kKvTile);
    const int64_t end = std::clamp<int64_t>(config.end_query(key + r) - query, begin, kKvTile);
    for (float* tile : {scores + r * kKvTile, d_p + r * kKvTile}) {
      std::fill(tile, tile + begin, 0.0f);
      std::fill(tile + end, tile + kKvTile, 0.0f);
    }
  }
}

void dots(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, int64_t ld, int64_t rows,
          int64_t dim, float* HWY_RESTRICT to) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < rows; ++r, a += ld, b += ld) {
    auto s = hn::Zero(d);
    int64_t i = 0;
    for (; i + lanes <= dim; i += lanes)
      s = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), s);
    to[r] = hn::GetLane(hn::SumOfLanes(d, s));
    for (; i < dim; ++i) to[r] += a[i] * b[i];
  }
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(softmax_step);
HWY_EXPORT(finish);
HWY_EXPORT(softcap);
HWY_EXPORT(backward_tile);
HWY_EXPORT(dots);

void online_softmax(float* scores, int64_t tiles, int64_t rows, float* max, float* sum, float* out,
                    int64_t d) {
  HWY_DYNAMIC_DISPATCH(softmax_step)(scores, tiles, rows, max, sum, out, d);
}

void finish_softmax(const float* acc, const float* max, const float* sum, int64_t rows, int64_t d,
                    float* out, int64_t ld_out, float* lse) {
  HWY_DYNAMIC_DISPATCH(finish)(acc, max, sum, rows, d, out, ld_out, lse);
}

void softcap_scores(float* scores, int64_t count, float cap, float* slope) {
  HWY_DYNAMIC_DISPATCH(softcap)(scores, count, cap, slope);
}

void softmax_backward_tile(const AttentionConfig& config, int64_t key, int64_t query,
                           const float* lse, const float* delta, const float* slope, float* scores,
                           float* d_p) {
  HWY_DYNAMIC_DISPATCH(backward_tile)(config, key, query, lse, delta, slope, scores, d_p);
}

void row_dots(const float* a, const float* b, int64_t ld, int64_t rows, int64_t d, float* to) {
  HWY_DYNAMIC_DISPATCH(dots)(a, b, ld, rows, d, to);
}

}  // namespace braid
#endif
