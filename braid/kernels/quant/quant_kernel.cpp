#include "braid/kernels/quant/quant.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "braid/kernels/quant/tiles_amx.h"
#include "braid/kernels/simd/amx.h"

// The target with int8 dot products, which Highway leaves out unless asked for.
#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL 1
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/quant/quant_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
#if HWY_TARGET == HWY_AVX3_DL && HWY_COMPILER_GCC_ACTUAL
#pragma GCC target("avx512vnni")
#endif

#include "braid/kernels/simd/dot4_inl.h"

namespace braid::HWY_NAMESPACE {

namespace {

constexpr int kGroups = 8;
constexpr int64_t kTileBlock = kQuantTileRows * 40;  // bytes of one block of a tile
constexpr int64_t kPairBlock = 1280;
constexpr int64_t kSliceBlocks = 16;  // of a pair: 20 KiB, which stay in the first cache

HWY_INLINE VF broadcast(const std::byte* p) {
  float v;
  std::memcpy(&v, p, sizeof v);
  return hn::Set(F(), v);
}

HWY_INLINE VU8 bytes(const std::byte* p) {
  return hn::LoadU(U8(), reinterpret_cast<const uint8_t*>(p));
}

HWY_INLINE VU8 low_nibbles(VU8 v) { return hn::And(v, hn::Set(U8(), uint8_t{15})); }

HWY_INLINE VU8 high_nibbles(VU8 v) {
  const hn::Repartition<uint16_t, F> d16;
  return low_nibbles(hn::BitCast(U8(), hn::ShiftRight<4>(hn::BitCast(d16, v))));
}

// ---- activations

template <typename Store>
HWY_INLINE void quantise_block(WeightType type, const float* HWY_RESTRICT x, Store&& store,
                               std::byte* scale_at, std::byte* extra_at) {
  const F f;
  const I i;
  VF v[32 / kLanes];
  // Integer comparison of the magnitudes' bits: a NaN is larger than anything and survives.
  VI top = hn::Zero(i);
  for (int j = 0; j < 32 / kLanes; ++j) {
    v[j] = hn::LoadU(f, x + j * kLanes);
    top = hn::Max(top, hn::BitCast(i, hn::Abs(v[j])));
  }
  const float largest = hn::GetLane(hn::BitCast(f, hn::MaxOfLanes(i, top)));
  const bool nothing = largest < 1e-30f;  // false for NaN
  const float scale = nothing ? 0.0f : largest / 127.0f;
  const VF inverse = hn::Set(f, nothing ? 0.0f : 127.0f / largest);
  VI sum = hn::Zero(i);
  for (int j = 0; j < 32 / kLanes; ++j) {
    const VI q = hn::NearestInt(hn::Mul(v[j], inverse));
    sum = hn::Add(sum, q);
    store(j, hn::DemoteTo(hn::Rebind<int8_t, I>(), q));
  }
  const int32_t total = hn::GetLane(hn::SumOfLanes(i, sum));
  std::memcpy(scale_at, &scale, 4);
  if (type == WeightType::kQ4Min) {
    const float extra = scale * static_cast<float>(total);
    std::memcpy(extra_at, &extra, 4);
  } else {
    // Unsigned: numbers of a block with a NaN are anything.
    const uint32_t extra =
        0u - static_cast<uint32_t>(total) * (type == WeightType::kQ8 ? 128u : 8u);
    std::memcpy(extra_at, &extra, 4);
  }
}

void quantise(WeightType type, const float* x, int64_t ldx, int64_t rows, int64_t cols,
              int64_t tile_rows, std::byte* tile) {
  const int64_t blocks = cols / kQuantBlock, block_bytes = tile_rows * 40;
  if (rows < tile_rows) std::memset(tile, 0, static_cast<size_t>(blocks * block_bytes));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t b = 0; b < blocks; ++b) {
      std::byte* at = tile + b * block_bytes;
      const bool by_row = tile_rows == kQuantMatrixRows;
      std::byte* numbers = at + r * (by_row ? kQuantBlock : 4);
      std::byte* scale = at + tile_rows * 32 + r * 4;
      const auto store = [&](int j, auto q) {
        if (by_row) {
          hn::StoreU(q, hn::Rebind<int8_t, I>(), reinterpret_cast<int8_t*>(numbers) + j * kLanes);
          return;
        }
        alignas(64) int8_t lanes[kLanes];
        hn::StoreU(q, hn::Rebind<int8_t, I>(), lanes);
        for (int g = 0; g < kLanes / 4; ++g) {
          std::memcpy(numbers + (j * (kLanes / 4) + g) * tile_rows * 4, lanes + g * 4, 4);
        }
      };
      quantise_block(type, x + r * ldx + b * kQuantBlock, store, scale, scale + tile_rows * 4);
    }
  }
}

// ---- blocks of packed weights

// Of one block, or of one part of its rows.
struct Scales {
  VF scale[kParts], minimum[kParts];  // minima of q4min only
};

// What the eight blocks of a super-block of q4min share, of one part of its rows.
struct SuperHeader {
  VF d, dmin;
  hn::Vec<hn::RebindToUnsigned<I>> words[3];
};

constexpr int64_t kSuperHeader = 256;  // d, dmin, words
constexpr int64_t kSuperBlocks = kSuperBlock / kQuantBlock;

HWY_INLINE SuperHeader super_header(const std::byte* p, int part) {
  const hn::RebindToUnsigned<I> u;
  const auto word = [&](int w) {
    return hn::LoadU(u, reinterpret_cast<const uint32_t*>(p + 64 + w * 64) + part * kLanes);
  };
  const std::byte* d = p + part * kLanes * 2;
  return {halves(d), halves(d + 32), {word(0), word(1), word(2)}};
}

// 6-bit number v of every row, as f32.
template <int v>
HWY_INLINE VF number6(const SuperHeader& h) {
  const hn::RebindToUnsigned<I> u;
  if constexpr (v < 15) {
    const auto bits = hn::ShiftRight<6 * (v % 5)>(h.words[v / 5]);
    return hn::ConvertTo(F(), hn::BitCast(I(), hn::And(bits, hn::Set(u, uint32_t{63}))));
  } else {
    const auto top = [&](int w) { return hn::ShiftRight<30>(h.words[w]); };
    const auto bits = hn::Or(top(0), hn::Or(hn::ShiftLeft<2>(top(1)), hn::ShiftLeft<4>(top(2))));
    return hn::ConvertTo(F(), hn::BitCast(I(), bits));
  }
}

template <int kBlock>
HWY_INLINE Scales super_scales(const SuperHeader (&h)[kParts]) {
  Scales s;
  for (int part = 0; part < kParts; ++part) {
    s.scale[part] = hn::Mul(h[part].d, number6<kBlock>(h[part]));
    s.minimum[part] = hn::Mul(h[part].dmin, number6<kSuperBlocks + kBlock>(h[part]));
  }
  return s;
}

// Calls f(b, numbers, scales) for every block b of a panel in order. A super-block's numbers of 6
// bits are unpacked with shifts that are known, from registers: looked up block by block they took
// a sixth of the time of reading it from memory.
template <WeightType T, typename Function>
HWY_INLINE void each_block(const std::byte* panel, int64_t cols, const Function& f) {
  for (int64_t b = 0; b < cols / kQuantBlock; b += weight_block(T) / kQuantBlock) {
    const std::byte* at = panel + b / (weight_block(T) / kQuantBlock) * panel_block_bytes(T);
    if constexpr (T == WeightType::kQ4Min) {
      SuperHeader h[kParts];
      for (int part = 0; part < kParts; ++part) h[part] = super_header(at, part);
      [&]<int... k>(std::integer_sequence<int, k...>) __attribute__((always_inline)) {
        (f(b + k, at + kSuperHeader + k * 256, super_scales<k>(h)), ...);
      }
      (std::make_integer_sequence<int, kSuperBlocks>());
    } else {
      Scales s;
      const std::byte* scales = at + (T == WeightType::kQ8 ? 512 : 256);
      for (int part = 0; part < kParts; ++part) s.scale[part] = halves(scales + part * kLanes * 2);
      f(b, at, s);
    }
  }
}

// The groups' bytes of one part of a block.
template <WeightType T>
HWY_INLINE void load_groups(const std::byte* numbers, int part, VU8 (&w)[kGroups]) {
  const std::byte* at = numbers + part * kLanes * 4;
  if constexpr (T == WeightType::kQ8) {
    for (int g = 0; g < kGroups; ++g) w[g] = bytes(at + g * 64);
  } else {
    for (int g = 0; g < kGroups / 2; ++g) {
      const VU8 v = bytes(at + g * 64);
      w[g] = low_nibbles(v);
      w[g + 4] = high_nibbles(v);
    }
  }
}

// ---- a few rows against packed weights

template <WeightType T, int R>
HWY_INLINE void stream_block(const std::byte* numbers, const Scales& scales, const std::byte* x,
                             VF (&sum)[R][kParts]) {
  const I i;
  for (int part = 0; part < kParts; ++part) {
    VU8 w[kGroups];
    load_groups<T>(numbers, part, w);
    for (int r = 0; r < R; ++r) {
      VI a = T == WeightType::kQ4Min ? hn::Zero(i) : four(x + R * 36 + r * 4);
      VI b = hn::Zero(i);
      for (int g = 0; g < kGroups; g += 2) {
        a = dot4(a, w[g], four(x + (g * R + r) * 4));
        b = dot4(b, w[g + 1], four(x + ((g + 1) * R + r) * 4));
      }
      const VF s = hn::Mul(scales.scale[part], broadcast(x + R * 32 + r * 4));
      sum[r][part] = hn::MulAdd(hn::ConvertTo(F(), hn::Add(a, b)), s, sum[r][part]);
      if constexpr (T == WeightType::kQ4Min) {
        sum[r][part] =
            hn::NegMulAdd(scales.minimum[part], broadcast(x + R * 36 + r * 4), sum[r][part]);
      }
    }
  }
}

template <WeightType T, int R>
void stream_panels(const std::byte* w, int64_t out, int64_t cols, const std::byte* tile,
                   int64_t rows, float* y, int64_t ldy, int64_t begin, int64_t end) {
  for (int64_t p = begin; p < end; ++p) {
    VF sum[R][kParts];
    for (int r = 0; r < R; ++r) {
      for (int part = 0; part < kParts; ++part) sum[r][part] = hn::Zero(F());
    }
    const auto add = [&](int64_t b, const std::byte* numbers, const Scales& scales)
        __attribute__((always_inline)) {
      stream_block<T, R>(numbers, scales, tile + b * R * 40, sum);
    };
    each_block<T>(w + p * panel_bytes(T, cols), cols, add);
    const int64_t n = std::min(kPanelRows, out - p * kPanelRows);
    for (int r = 0; r < R; ++r) {
      if (r >= rows) break;
      alignas(64) float lanes[kPanelRows];
      for (int part = 0; part < kParts; ++part)
        hn::StoreU(sum[r][part], F(), lanes + part * kLanes);
      std::memcpy(y + r * ldy + p * kPanelRows, lanes, static_cast<size_t>(n) * sizeof(float));
    }
  }
}

template <WeightType T>
void stream_of(const std::byte* w, int64_t out, int64_t cols, const std::byte* tile, int64_t rows,
               float* y, int64_t ldy, int64_t begin, int64_t end) {
  switch (quant_stream_tile(rows)) {
    case 1:
      return stream_panels<T, 1>(w, out, cols, tile, rows, y, ldy, begin, end);
    case 2:
      return stream_panels<T, 2>(w, out, cols, tile, rows, y, ldy, begin, end);
    default:
      return stream_panels<T, 4>(w, out, cols, tile, rows, y, ldy, begin, end);
  }
}

void stream(WeightType type, const std::byte* w, int64_t out, int64_t cols, const std::byte* tile,
            int64_t rows, float* y, int64_t ldy, int64_t begin, int64_t end) {
  switch (type) {
    case WeightType::kQ8:
      return stream_of<WeightType::kQ8>(w, out, cols, tile, rows, y, ldy, begin, end);
    case WeightType::kQ4:
      return stream_of<WeightType::kQ4>(w, out, cols, tile, rows, y, ldy, begin, end);
    default:
      return stream_of<WeightType::kQ4Min>(w, out, cols, tile, rows, y, ldy, begin, end);
  }
}

// ---- many rows: two panels expanded once, then used by every tile

// What a number means to signed products.
template <WeightType T>
HWY_INLINE VU8 without_offset(VU8 v) {
  if constexpr (T == WeightType::kQ8) return hn::Xor(v, hn::Set(U8(), uint8_t{0x80}));
  if constexpr (T == WeightType::kQ4) return hn::Sub(v, hn::Set(U8(), uint8_t{8}));
  return v;
}

template <WeightType T, bool kSigned>
void expand_panel(const std::byte* panel, int64_t cols, std::byte* pair) {
  const auto expand_block = [&](int64_t b, const std::byte* numbers, const Scales& scales)
      __attribute__((always_inline)) {
    std::byte* to = pair + b * kPairBlock;
    for (int part = 0; part < kParts; ++part) {
      VU8 w[kGroups];
      load_groups<T>(numbers, part, w);
      for (int g = 0; g < kGroups; ++g) {
        if constexpr (kSigned) w[g] = without_offset<T>(w[g]);
        hn::StoreU(w[g], U8(), reinterpret_cast<uint8_t*>(to + g * 128 + part * kLanes * 4));
      }
      float* scale = reinterpret_cast<float*>(to + 1024) + part * kLanes;
      hn::StoreU(scales.scale[part], F(), scale);
      if constexpr (T == WeightType::kQ4Min) {
        hn::StoreU(scales.minimum[part], F(), scale + 32);
      }
    }
  };
  each_block<T>(panel, cols, expand_block);
}

template <WeightType T>
void expand_panel(const std::byte* panel, int64_t cols, bool without_offset, std::byte* pair) {
  if (without_offset) return expand_panel<T, true>(panel, cols, pair);
  expand_panel<T, false>(panel, cols, pair);
}

void expand(WeightType type, const std::byte* w, int64_t panels, int64_t cols, bool without_offset,
            std::byte* pair) {
  if (panels < 2) std::memset(pair, 0, static_cast<size_t>(quant_pair_bytes(cols)));
  for (int64_t p = 0; p < panels; ++p) {
    // The second panel lies 64 bytes after the first in every group, scale and minimum alike.
    const std::byte* panel = w + p * panel_bytes(type, cols);
    std::byte* to = pair + p * 64;
    switch (type) {
      case WeightType::kQ8:
        expand_panel<WeightType::kQ8>(panel, cols, without_offset, to);
        break;
      case WeightType::kQ4:
        expand_panel<WeightType::kQ4>(panel, cols, without_offset, to);
        break;
      default:
        expand_panel<WeightType::kQ4Min>(panel, cols, without_offset, to);
    }
  }
}

constexpr int kRows = static_cast<int>(kQuantTileRows);

// sums [kRows][32] (+)= blocks of one tile times one part of both panels.
template <bool kMin>
HWY_INLINE void tile_slice(const std::byte* w, const std::byte* x, int64_t blocks, int part,
                           bool first, const float* from, float* to, int64_t ldto) {
  VF sum[kRows][2];
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < 2; ++p) {
      sum[r][p] = first ? hn::Zero(F()) : hn::LoadU(F(), from + r * 32 + p * 16 + part * kLanes);
    }
  }
  w += part * kLanes * 4;
  for (int64_t b = 0; b < blocks; ++b, w += kPairBlock, x += kTileBlock) {
    VI a[kRows][2];
    HWY_UNROLL(6)
    for (int r = 0; r < kRows; ++r) {
      a[r][0] = kMin ? hn::Zero(I()) : four(x + kRows * 36 + r * 4);
      a[r][1] = a[r][0];
    }
    HWY_UNROLL(8)
    for (int g = 0; g < kGroups; ++g) {
      const VU8 w0 = bytes(w + g * 128), w1 = bytes(w + g * 128 + 64);
      HWY_UNROLL(6)
      for (int r = 0; r < kRows; ++r) {
        const VI q = four(x + (g * kRows + r) * 4);
        a[r][0] = dot4(a[r][0], w0, q);
        a[r][1] = dot4(a[r][1], w1, q);
      }
    }
    const float* scales = reinterpret_cast<const float*>(w + 1024);
    const VF s0 = hn::LoadU(F(), scales), s1 = hn::LoadU(F(), scales + 16);
    HWY_UNROLL(6)
    for (int r = 0; r < kRows; ++r) {
      const VF s = broadcast(x + kRows * 32 + r * 4);
      sum[r][0] = hn::MulAdd(hn::ConvertTo(F(), a[r][0]), hn::Mul(s0, s), sum[r][0]);
      sum[r][1] = hn::MulAdd(hn::ConvertTo(F(), a[r][1]), hn::Mul(s1, s), sum[r][1]);
    }
    if constexpr (kMin) {
      const VF m0 = hn::LoadU(F(), scales + 32), m1 = hn::LoadU(F(), scales + 48);
      HWY_UNROLL(6)
      for (int r = 0; r < kRows; ++r) {
        const VF s = broadcast(x + kRows * 36 + r * 4);
        sum[r][0] = hn::NegMulAdd(m0, s, sum[r][0]);
        sum[r][1] = hn::NegMulAdd(m1, s, sum[r][1]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < 2; ++p) hn::StoreU(sum[r][p], F(), to + r * ldto + p * 16 + part * kLanes);
  }
}

template <bool kMin>
void tiles_of(const std::byte* pair, int64_t cols, const std::byte* tiles, int64_t rows,
              int64_t outs, float* y, int64_t ldy, float* sums) {
  const int64_t blocks = cols / kQuantBlock, tile_bytes = blocks * kTileBlock;
  const int64_t count = (rows + kRows - 1) / kRows;
  for (int64_t b = 0; b < blocks; b += kSliceBlocks) {
    const int64_t n = std::min(kSliceBlocks, blocks - b);
    const bool last = b + n == blocks;
    for (int64_t t = 0; t < count; ++t) {
      float* own = sums + t * kRows * 32;
      const std::byte* x = tiles + t * tile_bytes + b * kTileBlock;
      const bool whole = last && outs == 32 && (t + 1) * kRows <= rows;
      // Rows of y lie far apart and come from memory; asked for now they are there when stored to.
      for (int r = 0; whole && r < kRows; ++r) {
        __builtin_prefetch(y + (t * kRows + r) * ldy, 1);
        __builtin_prefetch(y + (t * kRows + r) * ldy + 16, 1);
      }
      for (int part = 0; part < kParts; ++part) {
        tile_slice<kMin>(pair + b * kPairBlock, x, n, part, b == 0, own,
                         whole ? y + t * kRows * ldy : own, whole ? ldy : 32);
      }
      if (!last || whole) continue;
      for (int64_t r = 0; r < std::min<int64_t>(kRows, rows - t * kRows); ++r) {
        std::memcpy(y + (t * kRows + r) * ldy, own + r * 32,
                    static_cast<size_t>(outs) * sizeof(float));
      }
    }
  }
}

void tiles(WeightType type, const std::byte* pair, int64_t cols, const std::byte* x, int64_t rows,
           int64_t outs, float* y, int64_t ldy, float* sums) {
  if (type == WeightType::kQ4Min) return tiles_of<true>(pair, cols, x, rows, outs, y, ldy, sums);
  tiles_of<false>(pair, cols, x, rows, outs, y, ldy, sums);
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(quantise);
HWY_EXPORT(stream);
HWY_EXPORT(expand);
HWY_EXPORT(tiles);

int64_t quant_tile_rows() { return amx() ? kQuantMatrixRows : kQuantTileRows; }

void quantise_rows(WeightType type, const float* x, int64_t ldx, int64_t rows, int64_t cols,
                   int64_t tile_rows, std::byte* tile) {
  HWY_DYNAMIC_DISPATCH(quantise)(type, x, ldx, rows, cols, tile_rows, tile);
}

void quant_stream(WeightType type, const std::byte* w, int64_t out, int64_t cols,
                  const std::byte* tile, int64_t rows, float* y, int64_t ldy, int64_t begin,
                  int64_t end) {
  HWY_DYNAMIC_DISPATCH(stream)(type, w, out, cols, tile, rows, y, ldy, begin, end);
}

void quant_expand(WeightType type, const std::byte* w, int64_t panels, int64_t cols,
                  std::byte* pair) {
  HWY_DYNAMIC_DISPATCH(expand)(type, w, panels, cols, amx(), pair);
}

void quant_tiles(WeightType type, const std::byte* pair, int64_t cols, const std::byte* x,
                 int64_t rows, int64_t outs, float* y, int64_t ldy, float* sums) {
  if (amx()) {
    return quant_tiles_amx(type == WeightType::kQ4Min, pair, cols, x, rows, outs, y, ldy, sums);
  }
  HWY_DYNAMIC_DISPATCH(tiles)(type, pair, cols, x, rows, outs, y, ldy, sums);
}

}  // namespace braid
#endif
