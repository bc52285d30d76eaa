#include "braid/kernels/attention/int16.h"

#include <algorithm>
#include <cstring>
#include <limits>

// The target with products of pairs, which Highway leaves out unless asked for.
#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL 1
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/attention/int16_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
#if HWY_TARGET == HWY_AVX3_DL && HWY_COMPILER_GCC_ACTUAL
#pragma GCC target("avx512vnni")
#endif

#include "braid/kernels/simd/dot4_inl.h"

namespace braid::HWY_NAMESPACE {
namespace {  // other kernel families use the same short names

constexpr int64_t kSlice = 2 * kLanes;  // columns of a right operand that lie together
constexpr int kRows = static_cast<int>(kInt16Rows);
constexpr float kLargest = 32767, kNothing = 1e-30f;
// Of a sum along 2 kLanes numbers, number i makes a pair with number i + kLanes: two vectors become
// one of pairs without a number moving to another lane.
constexpr int64_t kGroup = 2 * kLanes;
// The next number that is the first of a pair.
constexpr int64_t after(int64_t i) { return i % kGroup == kLanes - 1 ? i + kLanes + 1 : i + 1; }

bool has_products() { return BRAID_VNNI != 0; }

// ---- numbers to integers

// Integer comparison of the bits: a NaN is larger than anything and survives.
HWY_INLINE VI larger(VI top, VF x) { return hn::Max(top, hn::BitCast(I(), hn::Abs(x))); }

// What the numbers of a row are multiplied by, and the scale that takes it back.
struct Factors {
  VF factor, scale;
};

// `goal` is what the largest number of a row becomes; a lane is a row.
HWY_INLINE Factors factors_for(VI top, VF goal) {
  const F f;
  const VF largest = hn::BitCast(f, top);
  const auto finite = hn::Le(largest, hn::Set(f, std::numeric_limits<float>::max()));
  const auto something = hn::And(finite, hn::Ge(largest, hn::Set(f, kNothing)));
  const VF scale = hn::IfThenElseZero(something, hn::Div(largest, goal));
  const VF nan = hn::Set(f, std::numeric_limits<float>::quiet_NaN());
  return {hn::IfThenElseZero(something, hn::Div(goal, largest)),
          hn::IfThenElse(finite, scale, nan)};
}

// The largest number of a row of the length kInt16Norm; `squares` = the sum of its squares where
// that number is one.
HWY_INLINE VF goal_for(VF squares) {
  const F f;
  return hn::Min(hn::Set(f, kLargest), hn::Div(hn::Set(f, kInt16Norm), hn::Sqrt(squares)));
}

HWY_INLINE VF inverse_of(VI top) {
  const F f;
  return hn::Div(hn::Set(f, 1.0f), hn::Max(hn::BitCast(f, top), hn::Set(f, kNothing)));
}

// x and y times their factors as integers, x in the lower halves. Adding 1.5 * 2^23 rounds to an
// integer and leaves it in the low bits.
HWY_INLINE VI pairs(VF x, VF x_factor, VF y, VF y_factor) {
  const hn::Repartition<int16_t, F> d16;
  const VF magic = hn::Set(F(), 0x1.8p23f);
  const VI low = hn::BitCast(I(), hn::MulAdd(x, x_factor, magic));
  const VI high = hn::ShiftLeft<16>(hn::BitCast(I(), hn::MulAdd(y, y_factor, magic)));
  return hn::BitCast(I(), hn::OddEven(hn::BitCast(d16, high), hn::BitCast(d16, low)));
}

HWY_INLINE void store(VI x, int16_t* to) { hn::StoreU(x, I(), reinterpret_cast<int32_t*>(to)); }

void queries(const float* HWY_RESTRICT q, int64_t ld, int64_t rows, int64_t d, float by,
             int16_t* HWY_RESTRICT to, float* HWY_RESTRICT scales) {
  const F f;
  const int64_t padded = (rows + kRows - 1) / kRows * kRows;
  std::fill(scales + rows, scales + padded, 0.0f);
  std::fill(to + rows * d, to + padded * d, int16_t{0});
  for (int64_t r = 0; r < rows; ++r, q += ld, to += d) {
    VI top = hn::Zero(I());
    for (int64_t c = 0; c < d; c += kLanes) top = larger(top, hn::LoadU(f, q + c));
    top = hn::MaxOfLanes(I(), top);
    const VF inverse = inverse_of(top);
    VF squares = hn::Zero(f);
    for (int64_t c = 0; c < d; c += kLanes) {
      const VF x = hn::Mul(hn::LoadU(f, q + c), inverse);
      squares = hn::MulAdd(x, x, squares);
    }
    const Factors by_row = factors_for(top, goal_for(hn::SumOfLanes(f, squares)));
    for (int64_t c = 0; c < d; c += kGroup) {
      const VF x = hn::LoadU(f, q + c), y = hn::LoadU(f, q + c + kLanes);
      store(pairs(x, by_row.factor, y, by_row.factor), to + c);
    }
    scales[r] = hn::GetLane(by_row.scale) * by;
  }
}

void keys(const float* HWY_RESTRICT k, int64_t d, int16_t* HWY_RESTRICT to,
          float* HWY_RESTRICT scales) {
  const F f;
  for (int64_t j = 0; j < kKvTile; j += kLanes) {
    VI top = hn::Zero(I());
    for (int64_t c = 0; c < d; ++c) top = larger(top, hn::LoadU(f, k + c * kKvTile + j));
    const VF inverse = inverse_of(top);
    VF squares = hn::Zero(f);
    for (int64_t c = 0; c < d; ++c) {
      const VF x = hn::Mul(hn::LoadU(f, k + c * kKvTile + j), inverse);
      squares = hn::MulAdd(x, x, squares);
    }
    const Factors by = factors_for(top, goal_for(squares));
    hn::StoreU(by.scale, f, scales + j);
    int16_t* slice = to + j / kSlice * kSlice * d + j % kSlice * 2;
    for (int64_t c = 0; c < d; c = after(c), slice += 2 * kSlice) {
      const float* row = k + c * kKvTile + j;
      const VF x = hn::LoadU(f, row), y = hn::LoadU(f, row + kLanes * kKvTile);
      store(pairs(x, by.factor, y, by.factor), slice);
    }
  }
}

void values(const float* HWY_RESTRICT v, int64_t dv, int16_t* HWY_RESTRICT to,
            float* HWY_RESTRICT scales) {
  const F f;
  const VF goal = hn::Set(f, kInt16Value);
  const auto take_row = [&](int64_t r) HWY_ATTR {
    VI top = hn::Zero(I());
    for (int64_t c = 0; c < dv; c += kLanes) top = larger(top, hn::LoadU(f, v + r * dv + c));
    const Factors by = factors_for(hn::MaxOfLanes(I(), top), goal);
    scales[r] = hn::GetLane(by.scale);
    return by.factor;
  };
  for (int64_t r = 0; r < kKvTile; r = after(r), to += 2 * kSlice) {
    const VF x_factor = take_row(r), y_factor = take_row(r + kLanes);
    for (int64_t c = 0; c < dv; c += kLanes) {
      const VF x = hn::LoadU(f, v + r * dv + c), y = hn::LoadU(f, v + (r + kLanes) * dv + c);
      store(pairs(x, x_factor, y, y_factor), to + c / kSlice * kSlice * kKvTile + c % kSlice * 2);
    }
  }
}

// ---- products

HWY_INLINE VI pair(const int16_t* x) { return four(reinterpret_cast<const std::byte*>(x)); }

// finish(row, vector, sum) for the sums of kRows rows of a [kRows, k] and a slice of b.
template <typename Finish>
HWY_INLINE void multiply_slice(const int16_t* HWY_RESTRICT a, const int16_t* HWY_RESTRICT b,
                               int64_t k, Finish&& finish) {
  const I i;
  VI sum[kRows][2];
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = hn::Zero(i);
  for (int64_t c = 0; c < k; c += 2, a += 2, b += 2 * kSlice) {
    const VI b0 = hn::LoadU(i, reinterpret_cast<const int32_t*>(b));
    const VI b1 = hn::LoadU(i, reinterpret_cast<const int32_t*>(b) + kLanes);
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      const VI x = pair(a + r * k);
      sum[r][0] = dot2(sum[r][0], x, b0);
      sum[r][1] = dot2(sum[r][1], x, b1);
    }
  }
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    finish(r, 0, hn::ConvertTo(F(), sum[r][0]));
    finish(r, 1, hn::ConvertTo(F(), sum[r][1]));
  }
}

void scores(const int16_t* q, const float* q_scales, int64_t padded, const int16_t* k,
            const float* k_scales, int64_t d, float* HWY_RESTRICT to) {
  const F f;
  for (int64_t j = 0; j < kKvTile; j += kSlice, k += kSlice * d) {
    const VF scale[2] = {hn::LoadU(f, k_scales + j), hn::LoadU(f, k_scales + j + kLanes)};
    for (int64_t r = 0; r < padded; r += kRows) {
      float* at = to + r * kKvTile + j;
      multiply_slice(q + r * d, k, d, [&](int row, int vector, VF sum) HWY_ATTR {
        const VF by = hn::Mul(hn::Set(f, q_scales[r + row]), scale[vector]);
        hn::StoreU(hn::Mul(sum, by), f, at + row * kKvTile + vector * kLanes);
      });
    }
  }
}

// A row of probabilities times the scales of their values as integers; returns what a unit is
// worth.
HWY_INLINE float weigh(const float* HWY_RESTRICT p, const float* HWY_RESTRICT scales,
                       int16_t* HWY_RESTRICT to) {
  constexpr int kVectors = kKvTile / kLanes;
  const F f;
  VF w[kVectors], total = hn::Zero(f), most = hn::Zero(f);
  HWY_UNROLL(8)
  for (int v = 0; v < kVectors; ++v) {
    w[v] = hn::Mul(hn::LoadU(f, p + v * kLanes), hn::LoadU(f, scales + v * kLanes));
    total = hn::Add(total, w[v]);
    most = hn::Max(most, w[v]);
  }
  const float sum = hn::GetLane(hn::SumOfLanes(f, total));
  const float largest = hn::GetLane(hn::MaxOfLanes(f, most));
  float unit = std::max(sum * (1 / kInt16Sum), largest * (1 / kLargest));
  if (!(sum <= std::numeric_limits<float>::max())) unit = std::numeric_limits<float>::quiet_NaN();
  const VF factor = hn::Set(f, largest >= kNothing ? 1 / unit : 0.0f);
  HWY_UNROLL(8)
  for (int v = 0; v < kVectors; v += 2)
    store(pairs(w[v], factor, w[v + 1], factor), to + v * kLanes);
  return unit;
}

void gather(const float* p, int64_t rows, const int16_t* v, const float* v_scales, int64_t dv,
            float* HWY_RESTRICT out) {
  const F f;
  const int64_t padded = (rows + kRows - 1) / kRows * kRows;
  alignas(64) int16_t weights[kKvTile * kKvTile];
  float units[kKvTile];
  for (int64_t r = 0; r < rows; ++r)
    units[r] = weigh(p + r * kKvTile, v_scales, weights + r * kKvTile);
  std::fill(units + rows, units + padded, 0.0f);
  std::fill(weights + rows * kKvTile, weights + padded * kKvTile, int16_t{0});
  for (int64_t c = 0; c < dv; c += kSlice, v += kSlice * kKvTile) {
    for (int64_t r = 0; r < padded; r += kRows) {
      float* at = out + r * dv + c;
      multiply_slice(weights + r * kKvTile, v, kKvTile, [&](int row, int vector, VF sum) HWY_ATTR {
        float* to = at + row * dv + vector * kLanes;
        hn::StoreU(hn::MulAdd(sum, hn::Set(f, units[r + row]), hn::LoadU(f, to)), f, to);
      });
    }
  }
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(has_products);
HWY_EXPORT(queries);
HWY_EXPORT(keys);
HWY_EXPORT(values);
HWY_EXPORT(scores);
HWY_EXPORT(gather);

bool int16_products() { return HWY_DYNAMIC_DISPATCH(has_products)(); }

void int16_queries(const float* q, int64_t ld, int64_t rows, int64_t d, float scale, int16_t* to,
                   float* scales) {
  HWY_DYNAMIC_DISPATCH(queries)(q, ld, rows, d, scale, to, scales);
}

void int16_keys(const float* k, int64_t d, int16_t* to, float* scales) {
  HWY_DYNAMIC_DISPATCH(keys)(k, d, to, scales);
}

void int16_values(const float* v, int64_t dv, int16_t* to, float* scales) {
  HWY_DYNAMIC_DISPATCH(values)(v, dv, to, scales);
}

void int16_scores(const int16_t* q, const float* query_scales, int64_t padded, const int16_t* k,
                  const float* key_scales, int64_t d, float* to) {
  HWY_DYNAMIC_DISPATCH(scores)(q, query_scales, padded, k, key_scales, d, to);
}

void int16_gather(const float* probabilities, int64_t rows, const int16_t* v,
                  const float* value_scales, int64_t dv, float* out) {
  HWY_DYNAMIC_DISPATCH(gather)(probabilities, rows, v, value_scales, dv, out);
}

}  // namespace braid
#endif
