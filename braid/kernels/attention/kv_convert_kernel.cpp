#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/attention/kv_convert_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "braid/kernels/attention/kv_convert.h"
#include "braid/kernels/attention/pack.h"
#include "braid/kernels/gemm/gemm.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // other kernel families use the same short names

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using DI = hn::RebindToSigned<D>;

// A value that is not finite makes the scale NaN: it must not read back as a number.
float quantize(const float* HWY_RESTRICT x, int64_t n, int8_t* HWY_RESTRICT codes) {
  const D d;
  const hn::Rebind<int8_t, D> d8;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto top = hn::Zero(d), poison = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    top = hn::Max(top, hn::Abs(v));
    poison = hn::MulAdd(v, hn::Zero(d), poison);
  }
  float largest = hn::GetLane(hn::MaxOfLanes(d, top));
  float bad = hn::GetLane(hn::SumOfLanes(d, poison));
  for (; i < n; ++i) {
    largest = std::max(largest, std::abs(x[i]));
    bad += x[i] * 0.0f;
  }
  if (bad != 0.0f) {
    std::fill(codes, codes + n, int8_t{0});
    return bad;
  }
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  const auto f = hn::Set(d, inverse);
  for (i = 0; i + lanes <= n; i += lanes) {
    const auto whole = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), f));
    hn::StoreU(hn::DemoteTo(d8, whole), d8, codes + i);
  }
  for (; i < n; ++i) codes[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
  return largest / 127.0f;
}

// Four channels of 64 positions at a time: [64, 4] codes + 128 -> 4 rows of 64.
void keys_q8(const uint8_t* HWY_RESTRICT codes, const float* HWY_RESTRICT scales, int64_t channels,
             float* HWY_RESTRICT to) {
  const D d;
  const DI di;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto low = hn::Set(di, 255), bias = hn::Set(di, 128);
  for (int64_t c = 0; c < channels; c += 4, codes += kKvTile * 4, to += 4 * kKvTile) {
    const int64_t some = std::min<int64_t>(4, channels - c);
    for (int64_t r = 0; r < kKvTile; r += lanes) {
      auto four = hn::LoadU(di, reinterpret_cast<const int32_t*>(codes) + r);
      const auto scale = hn::LoadU(d, scales + r);
      for (int64_t i = 0; i < some; ++i) {
        const auto value = hn::ConvertTo(d, hn::Sub(hn::And(four, low), bias));
        hn::StoreU(hn::Mul(value, scale), d, to + i * kKvTile + r);
        four = hn::ShiftRight<8>(four);
      }
    }
  }
}

// Four positions at a time: [dv, 4] codes -> 4 rows of dv.
void values_q8(const int8_t* HWY_RESTRICT codes, const float* HWY_RESTRICT scales, int64_t dv,
               float* HWY_RESTRICT to) {
  const D d;
  const DI di;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < kKvTile; r += 4, codes += 4 * dv, to += 4 * dv) {
    const auto s0 = hn::Set(d, scales[r]), s1 = hn::Set(d, scales[r + 1]);
    const auto s2 = hn::Set(d, scales[r + 2]), s3 = hn::Set(d, scales[r + 3]);
    int64_t c = 0;
    for (; c + lanes <= dv; c += lanes) {
      const auto four = hn::LoadU(di, reinterpret_cast<const int32_t*>(codes) + c);
      const auto x0 = hn::ShiftRight<24>(hn::ShiftLeft<24>(four));
      const auto x1 = hn::ShiftRight<24>(hn::ShiftLeft<16>(four));
      const auto x2 = hn::ShiftRight<24>(hn::ShiftLeft<8>(four));
      const auto x3 = hn::ShiftRight<24>(four);
      hn::StoreU(hn::Mul(hn::ConvertTo(d, x0), s0), d, to + c);
      hn::StoreU(hn::Mul(hn::ConvertTo(d, x1), s1), d, to + dv + c);
      hn::StoreU(hn::Mul(hn::ConvertTo(d, x2), s2), d, to + 2 * dv + c);
      hn::StoreU(hn::Mul(hn::ConvertTo(d, x3), s3), d, to + 3 * dv + c);
    }
    for (; c < dv; ++c) {
      for (int64_t i = 0; i < 4; ++i)
        to[i * dv + c] = static_cast<float>(codes[4 * c + i]) * scales[r + i];
    }
  }
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {
namespace {

HWY_EXPORT(quantize);
HWY_EXPORT(keys_q8);
HWY_EXPORT(values_q8);

void pack_head_bf16(const KvLayout& layout, const float* k, const float* v, int64_t row,
                    std::byte* keys, std::byte* values) {
  thread_local std::vector<uint16_t> narrow;
  narrow.resize(static_cast<size_t>(layout.d));
  narrow_to_bf16(k, layout.d, narrow.data());
  auto* to_k = reinterpret_cast<uint16_t*>(keys);
  for (int64_t i = 0; i < layout.d; ++i) to_k[i * kKvTile + row] = narrow[static_cast<size_t>(i)];
  narrow_to_bf16(v, layout.dv, reinterpret_cast<uint16_t*>(values) + row * layout.dv);
}

float* scales_of(const KvLayout& layout, std::byte* tile, int64_t tile_bytes) {
  return reinterpret_cast<float*>(tile + tile_bytes - layout.scale_bytes());
}

void pack_head_q8(const KvLayout& layout, const float* k, const float* v, int64_t row,
                  std::byte* keys, std::byte* values) {
  thread_local std::vector<int8_t> codes;
  codes.resize(static_cast<size_t>(std::max(layout.d, layout.dv)));
  scales_of(layout, keys, layout.key_tile())[row] = quantize_q8(k, layout.d, codes.data());
  for (int64_t i = 0; i < layout.d; ++i)
    keys[layout.key_at(row, i)] = static_cast<std::byte>(codes[static_cast<size_t>(i)] + 128);
  scales_of(layout, values, layout.value_tile())[row] = quantize_q8(v, layout.dv, codes.data());
  for (int64_t i = 0; i < layout.dv; ++i)
    values[layout.value_at(row, i)] = static_cast<std::byte>(codes[static_cast<size_t>(i)]);
}

}  // namespace

float quantize_q8(const float* x, int64_t n, int8_t* codes) {
  return HWY_DYNAMIC_DISPATCH(quantize)(x, n, codes);
}

void pack_kv_rows(const KvLayout& layout, int64_t kv_heads, const KvRows& from, int64_t tile,
                  int64_t begin, int64_t rows, std::byte* page) {
  for (int64_t h = 0; h < kv_heads; ++h) {
    const float *k = from.k + h * layout.d, *v = from.v + h * layout.dv;
    std::byte *keys = page + layout.keys(tile, h), *values = page + layout.values(tile, h);
    if (layout.type == KvType::kF32) {
      pack_columns(k, from.ld_k, rows, layout.d, begin, reinterpret_cast<float*>(keys));
      pack_rows(v, from.ld_v, rows, layout.dv, 1.0f,
                reinterpret_cast<float*>(values) + begin * layout.dv);
      continue;
    }
    const auto pack = layout.type == KvType::kBF16 ? pack_head_bf16 : pack_head_q8;
    for (int64_t r = 0; r < rows; ++r)
      pack(layout, k + r * from.ld_k, v + r * from.ld_v, begin + r, keys, values);
  }
}

void unpack_keys(const KvLayout& layout, const std::byte* keys, float* to) {
  const int64_t count = kKvTile * layout.d;
  if (layout.type == KvType::kF32) {
    std::memcpy(to, keys, static_cast<size_t>(count) * sizeof(float));
  } else if (layout.type == KvType::kBF16) {
    widen_bf16(reinterpret_cast<const uint16_t*>(keys), count, to);
  } else {
    const std::byte* scales = keys + layout.key_tile() - layout.scale_bytes();
    HWY_DYNAMIC_DISPATCH(keys_q8)
    (reinterpret_cast<const uint8_t*>(keys), reinterpret_cast<const float*>(scales), layout.d, to);
  }
}

void unpack_values(const KvLayout& layout, const std::byte* values, float* to) {
  const int64_t count = kKvTile * layout.dv;
  if (layout.type == KvType::kF32) {
    std::memcpy(to, values, static_cast<size_t>(count) * sizeof(float));
  } else if (layout.type == KvType::kBF16) {
    widen_bf16(reinterpret_cast<const uint16_t*>(values), count, to);
  } else {
    const std::byte* scales = values + layout.value_tile() - layout.scale_bytes();
    HWY_DYNAMIC_DISPATCH(values_q8)
    (reinterpret_cast<const int8_t*>(values), reinterpret_cast<const float*>(scales), layout.dv,
     to);
  }
}

}  // namespace braid
#endif
