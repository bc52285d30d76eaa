#include "braid/kernels/attention/decode_q8.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

// The target with int8 dot products, which Highway leaves out unless asked for.
#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL 1
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/attention/decode_q8_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
#if HWY_TARGET == HWY_AVX3_DL && HWY_COMPILER_GCC_ACTUAL
#pragma GCC target("avx512vnni")
#endif

#include "braid/kernels/simd/dot4_inl.h"
#include "braid/kernels/simd/load_lines.h"

namespace braid::HWY_NAMESPACE {
namespace {  // other kernel families use the same short names

constexpr int64_t kWide = 4;  // vectors side by side

struct QueryHead {
  float scale;
  int32_t high_bias, low_bias;  // what codes + 128 add to the sums
  const std::byte *high, *low;
};

QueryHead head_of(const KvLayout& l, const float* query) {
  QueryHead q;
  std::memcpy(&q.scale, query, 4);
  std::memcpy(&q.high_bias, query + 1, 4);
  std::memcpy(&q.low_bias, query + 2, 4);
  q.high = reinterpret_cast<const std::byte*>(query + 4);
  q.low = q.high + l.padded_d();
  return q;
}

template <int kHeads>
void tile_scores(const KvLayout& l, const std::byte* keys, const float* queries,
                 float* HWY_RESTRICT scores, int64_t ld) {
  const F f;
  const I i;
  const int64_t d = l.padded_d();
  QueryHead q[kHeads];
  for (int h = 0; h < kHeads; ++h) q[h] = head_of(l, queries + h * q8_query_floats(l));
  const auto* scales = reinterpret_cast<const float*>(keys + l.key_tile() - l.scale_bytes());
  for (int64_t at = 0; at < kKvTile; at += kWide * kLanes) {
    VI high[kHeads][kWide], low[kHeads][kWide];
    for (int h = 0; h < kHeads; ++h) {
      for (int v = 0; v < kWide; ++v) {
        high[h][v] = hn::Set(i, -q[h].high_bias);
        low[h][v] = hn::Set(i, -q[h].low_bias);
      }
    }
    const auto* codes = reinterpret_cast<const uint8_t*>(keys) + at * 4;
    for (int64_t c = 0; c < d; c += 4, codes += kKvTile * 4) {
      const VU8 k0 = hn::LoadU(U8(), codes), k1 = hn::LoadU(U8(), codes + 4 * kLanes);
      const VU8 k2 = hn::LoadU(U8(), codes + 8 * kLanes), k3 = hn::LoadU(U8(), codes + 12 * kLanes);
      for (int h = 0; h < kHeads; ++h) {
        const VI a = four(q[h].high + c), b = four(q[h].low + c);
        high[h][0] = dot4(high[h][0], k0, a);
        high[h][1] = dot4(high[h][1], k1, a);
        high[h][2] = dot4(high[h][2], k2, a);
        high[h][3] = dot4(high[h][3], k3, a);
        low[h][0] = dot4(low[h][0], k0, b);
        low[h][1] = dot4(low[h][1], k1, b);
        low[h][2] = dot4(low[h][2], k2, b);
        low[h][3] = dot4(low[h][3], k3, b);
      }
    }
    for (int h = 0; h < kHeads; ++h) {
      for (int v = 0; v < kWide; ++v) {
        const VF sum = hn::MulAdd(hn::ConvertTo(f, high[h][v]), hn::Set(f, 256.0f),
                                  hn::ConvertTo(f, low[h][v]));
        const VF scale = hn::Mul(hn::LoadU(f, scales + at + v * kLanes), hn::Set(f, q[h].scale));
        hn::StoreU(hn::Mul(sum, scale), f, scores + h * ld + at + v * kLanes);
      }
    }
  }
}

void scores(const KvLayout& l, const std::byte* keys, int64_t heads, const float* queries,
            float* to, int64_t ld) {
  int64_t h = 0;
  for (; h + 2 <= heads; h += 2)
    tile_scores<2>(l, keys, queries + h * q8_query_floats(l), to + h * ld, ld);
  if (h < heads) tile_scores<1>(l, keys, queries + h * q8_query_floats(l), to + h * ld, ld);
}

// A head's weights of a tile as two bytes each.
struct WeightHead {
  float scale;
  alignas(64) std::byte high[kKvTile], low[kKvTile];
};

// Weights, which are not negative, times the scales of their values. What is not finite leaves a
// scale that is not.
void split_weights(const float* weights, const float* scales, int64_t begin, int64_t end,
                   WeightHead& to) {
  const F f;
  const I i;
  alignas(64) float w[kKvTile] = {};
  alignas(64) int32_t whole[kKvTile];
  for (int64_t r = begin; r < end; ++r) w[r] = weights[r] * scales[r];
  // Integer comparison of the bits: a NaN is larger than anything and survives.
  VI top = hn::Zero(i);
  for (int64_t r = 0; r < kKvTile; r += kLanes)
    top = hn::Max(top, hn::BitCast(i, hn::Abs(hn::Load(f, w + r))));
  const float largest = std::bit_cast<float>(hn::GetLane(hn::MaxOfLanes(i, top)));
  const bool finite = largest <= std::numeric_limits<float>::max();
  to.scale = finite ? largest / 65535.0f : std::numeric_limits<float>::quiet_NaN();
  const VF factor = hn::Set(f, finite && largest > 0 ? 65535.0f / largest : 0.0f);
  for (int64_t r = 0; r < kKvTile; r += kLanes) {
    const VF x = finite ? hn::Mul(hn::Load(f, w + r), factor) : hn::Zero(f);
    hn::Store(hn::Min(hn::NearestInt(x), hn::Set(i, 65535)), i, whole + r);
  }
  for (int64_t r = 0; r < kKvTile; ++r) {
    to.high[r] = static_cast<std::byte>(whole[r] >> 8);
    to.low[r] = static_cast<std::byte>(whole[r] & 255);
  }
}

// kVectors vectors of channels from `values` on, 16 quadruples of positions of dv channels. The
// pass that comes to them first loads `ahead` bytes of a quadruple in order.
template <int kHeads, int kVectors>
void tile_values(const std::byte* values, int64_t dv, const WeightHead* w, float* HWY_RESTRICT out,
                 int64_t ld_out, int64_t ahead) {
  const F f;
  const I i;
  VI high[kHeads][kVectors], low[kHeads][kVectors];
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kVectors; ++v) high[h][v] = low[h][v] = hn::Zero(i);
  }
  for (int64_t r = 0; r < kKvTile; r += 4, values += 4 * dv) {
    load_lines(values, ahead);
    VI x[kVectors];
    for (int v = 0; v < kVectors; ++v)
      x[v] = hn::LoadU(i, reinterpret_cast<const int32_t*>(values) + v * kLanes);
    for (int h = 0; h < kHeads; ++h) {
      const VU8 a = hn::BitCast(U8(), four(w[h].high + r)),
                b = hn::BitCast(U8(), four(w[h].low + r));
      for (int v = 0; v < kVectors; ++v) {
        high[h][v] = dot4(high[h][v], a, x[v]);
        low[h][v] = dot4(low[h][v], b, x[v]);
      }
    }
  }
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kVectors; ++v) {
      const VF sum =
          hn::MulAdd(hn::ConvertTo(f, high[h][v]), hn::Set(f, 256.0f), hn::ConvertTo(f, low[h][v]));
      float* to = out + h * ld_out + v * kLanes;
      hn::StoreU(hn::MulAdd(sum, hn::Set(f, w[h].scale), hn::LoadU(f, to)), f, to);
    }
  }
}

template <int kHeads>
void some_values(const KvLayout& l, const std::byte* values, const WeightHead* w, float* out,
                 int64_t ld_out, bool first_pass) {
  int64_t c = 0;
  for (; c + kWide * kLanes <= l.dv; c += kWide * kLanes)
    tile_values<kHeads, kWide>(values + 4 * c, l.dv, w, out + c, ld_out,
                               first_pass && c == 0 ? 4 * l.dv : 0);
  for (; c + kLanes <= l.dv; c += kLanes)
    tile_values<kHeads, 1>(values + 4 * c, l.dv, w, out + c, ld_out, 0);
  for (int h = 0; h < kHeads; ++h) {
    for (int64_t i = c; i < l.dv; ++i) {
      int32_t sum = 0;
      for (int64_t r = 0; r < kKvTile; ++r) {
        const int32_t weight =
            static_cast<int32_t>(w[h].high[r]) * 256 + static_cast<int32_t>(w[h].low[r]);
        const auto code = static_cast<int8_t>(values[l.value_at(r, i)]);
        sum += weight * code;
      }
      out[h * ld_out + i] += static_cast<float>(sum) * w[h].scale;
    }
  }
}

void values(const KvLayout& l, const std::byte* tile, int64_t heads, const float* weights,
            int64_t ld, int64_t begin, int64_t end, float* out, int64_t ld_out, bool accumulate) {
  const auto* scales = reinterpret_cast<const float*>(tile + l.value_tile() - l.scale_bytes());
  WeightHead w[2];
  for (int64_t h = 0; h < heads; h += 2) {
    const int64_t some = std::min<int64_t>(2, heads - h);
    for (int64_t i = 0; i < some; ++i) {
      split_weights(weights + (h + i) * ld, scales, begin, end, w[i]);
      if (!accumulate) std::fill_n(out + (h + i) * ld_out, l.dv, 0.0f);
    }
    if (some == 2) {
      some_values<2>(l, tile, w, out + h * ld_out, ld_out, h == 0);
    } else {
      some_values<1>(l, tile, w, out + h * ld_out, ld_out, h == 0);
    }
  }
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(scores);
HWY_EXPORT(values);

void q8_query(const KvLayout& layout, const float* q, float* query) {
  const int64_t d = layout.padded_d();
  float largest = 0;
  bool finite = true;
  for (int64_t i = 0; i < layout.d; ++i) {
    largest = std::max(largest, std::abs(q[i]));
    finite = finite && std::isfinite(q[i]);
  }
  constexpr float kLargest = 127 * 256;
  const float scale = finite ? largest / kLargest : std::numeric_limits<float>::quiet_NaN();
  const float inverse = finite && largest > 0 ? kLargest / largest : 0.0f;
  auto* high = reinterpret_cast<int8_t*>(query + 4);
  int8_t* low = high + d;
  int32_t high_sum = 0, low_sum = 0;
  for (int64_t i = 0; i < d; ++i) {
    const int32_t whole =
        finite && i < layout.d ? static_cast<int32_t>(std::nearbyint(q[i] * inverse)) : 0;
    const int32_t upper = (whole + 128) >> 8;
    high[i] = static_cast<int8_t>(upper);
    low[i] = static_cast<int8_t>(whole - upper * 256);
    high_sum += 128 * high[i];
    low_sum += 128 * low[i];
  }
  std::memcpy(query, &scale, 4);
  std::memcpy(query + 1, &high_sum, 4);
  std::memcpy(query + 2, &low_sum, 4);
}

void q8_scores(const KvLayout& layout, const std::byte* keys, int64_t heads, const float* queries,
               float* to, int64_t ld) {
  HWY_DYNAMIC_DISPATCH(scores)(layout, keys, heads, queries, to, ld);
}

void q8_values(const KvLayout& layout, const std::byte* tile, int64_t heads, const float* weights,
               int64_t ld, int64_t begin, int64_t end, float* out, int64_t ld_out,
               bool accumulate) {
  HWY_DYNAMIC_DISPATCH(values)
  (layout, tile, heads, weights, ld, begin, end, out, ld_out, accumulate);
}

}  // namespace braid
#endif
