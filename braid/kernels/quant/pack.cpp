#include "braid/kernels/quant/pack.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace braid {
namespace {

constexpr int kBlock = static_cast<int>(kQuantBlock);
constexpr int kBlocksOfSuper = static_cast<int>(kSuperBlock / kQuantBlock);
constexpr int64_t kSuperHeader = 256;

uint16_t to_half(float x) { return static_cast<uint16_t>(_cvtss_sh(x, 0)); }
float from_half(uint16_t h) { return _cvtsh_ss(h); }

uint16_t load_half(const std::byte* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  return h;
}

void store_half(uint16_t h, std::byte* p) { std::memcpy(p, &h, 2); }

// ---- 32 numbers of a lane. Group g of four lies at 64 g; nibbles share bytes of groups g, g + 4.

void put_bytes(const uint8_t* q, int lane, std::byte* numbers) {
  for (int g = 0; g < 8; ++g) std::memcpy(numbers + g * 64 + lane * 4, q + g * 4, 4);
}

void put_nibbles(const uint8_t* q, int lane, std::byte* numbers) {
  for (int g = 0; g < 4; ++g) {
    uint32_t low, high;
    std::memcpy(&low, q + g * 4, 4);
    std::memcpy(&high, q + g * 4 + 16, 4);
    low |= high << 4;
    std::memcpy(numbers + g * 64 + lane * 4, &low, 4);
  }
}

void get_numbers(WeightType type, const std::byte* numbers, int lane, uint8_t* q) {
  for (int i = 0; i < kBlock; ++i) {
    if (type == WeightType::kQ8) {
      q[i] = static_cast<uint8_t>(numbers[i / 4 * 64 + lane * 4 + i % 4]);
    } else {
      const auto b = static_cast<uint8_t>(numbers[i % 16 / 4 * 64 + lane * 4 + i % 4]);
      q[i] = i < 16 ? b & 15 : b >> 4;
    }
  }
}

// ---- the sixteen 6-bit numbers of a row of a super-block

void put_packed6(const uint8_t* v, int lane, std::byte* words) {
  for (int w = 0; w < 3; ++w) {
    uint32_t word = static_cast<uint32_t>(v[15] >> (2 * w) & 3) << 30;
    for (int i = 0; i < 5; ++i) word |= static_cast<uint32_t>(v[w * 5 + i]) << (6 * i);
    std::memcpy(words + w * 64 + lane * 4, &word, 4);
  }
}

void get_packed6(const std::byte* words, int lane, uint8_t* v) {
  v[15] = 0;
  for (int w = 0; w < 3; ++w) {
    uint32_t word;
    std::memcpy(&word, words + w * 64 + lane * 4, 4);
    for (int i = 0; i < 5; ++i) v[w * 5 + i] = static_cast<uint8_t>(word >> (6 * i) & 63);
    v[15] = static_cast<uint8_t>(v[15] | (word >> 30) << (2 * w));
  }
}

// ---- rounding

// round(x inverse) + zero, held in [0, top]. Numbers of a NaN scale do not matter.
void round_block(const float* x, float inverse, int zero, int top, uint8_t* q) {
  for (int i = 0; i < kBlock; ++i) {
    const float v = std::nearbyint(x[i] * inverse) + static_cast<float>(zero);
    q[i] = static_cast<uint8_t>(std::min(static_cast<float>(top), std::max(0.0f, v)));
  }
}

// The value of largest magnitude; NaN when there is one.
float extreme(const float* x) {
  float largest = 0, value = 0;
  bool nan = false;
  for (int i = 0; i < kBlock; ++i) {
    nan = nan || std::isnan(x[i]);
    const float a = std::abs(x[i]);
    value = a > largest ? x[i] : value;
    largest = std::max(largest, a);
  }
  return nan ? std::numeric_limits<float>::quiet_NaN() : value;
}

float inverse_of(float scale) { return scale != 0 ? 1.0f / scale : 0.0f; }

// Whether round_block loses nothing.
bool on_grid(const float* x, float scale) {
  const float inverse = inverse_of(scale);
  return std::all_of(x, x + kBlock,
                     [&](float v) { return scale * std::nearbyint(v * inverse) == v; });
}

// Numbers that Q4_0 made lie on a coarser grid, which eight bits hold as it is: the largest of a
// block is -8 or, where the scale was searched for, -7 steps.
uint16_t q8_scale(const float* x) {
  const float top = extreme(x);
  if (top == 0) return 0;
  for (const float steps : {-8.0f, -7.0f}) {
    const uint16_t coarse = to_half(top / steps);
    if (on_grid(x, from_half(coarse))) return coarse;
  }
  return to_half(std::abs(top) / 127.0f);
}

void pack_q8(const float* x, int lane, std::byte* block) {
  const uint16_t scale = q8_scale(x);
  uint8_t q[kBlock];
  round_block(x, inverse_of(from_half(scale)), 128, 255, q);
  put_bytes(q, lane, block);
  store_half(scale, block + 512 + lane * 2);
}

float squared_error(const float* x, float scale, const uint8_t* q) {
  float sum = 0;
  for (int i = 0; i < kBlock; ++i) {
    const float e = x[i] - scale * static_cast<float>(q[i] - 8);
    sum += e * e;
  }
  return sum;
}

void pack_q4(const float* x, int lane, std::byte* block) {
  // The extreme value at -8 exactly, or a little beyond the grid: its error against everybody's.
  constexpr float kGrid[] = {8.0f, 8.4f, 7.6f, 8.8f, 7.2f};
  const float top = extreme(x);
  uint8_t best[kBlock] = {}, q[kBlock];
  uint16_t best_scale = 0;
  float least = std::numeric_limits<float>::infinity();
  for (const float g : kGrid) {
    const uint16_t half = to_half(top / -g);
    const float scale = from_half(half);
    round_block(x, inverse_of(scale), 8, 15, q);
    const float error = squared_error(x, scale, q);
    if (error < least) {
      least = error;
      best_scale = half;
      std::memcpy(best, q, sizeof q);
    }
  }
  if (std::isnan(top)) best_scale = to_half(top);
  put_nibbles(best, lane, block);
  store_half(best_scale, block + 256 + lane * 2);
}

// Six bits of v in steps of `step`.
uint8_t six_bits(float v, float step) {
  return static_cast<uint8_t>(std::min(63.0f, std::nearbyint(v * inverse_of(step))));
}

void pack_q4min(const float* x, int lane, std::byte* super) {
  float range[kBlocksOfSuper], low[kBlocksOfSuper];
  float range_top = 0, low_top = 0;
  bool nan = false;
  for (int b = 0; b < kBlocksOfSuper; ++b) {
    const float* v = x + b * kBlock;
    nan = nan || std::isnan(extreme(v));
    const float lo = std::min(0.0f, *std::min_element(v, v + kBlock));
    const float hi = std::max(lo, *std::max_element(v, v + kBlock));
    low[b] = -lo;
    range[b] = (hi - lo) / 15.0f;
    range_top = std::max(range_top, range[b]);
    low_top = std::max(low_top, low[b]);
  }
  const uint16_t d_half = nan ? uint16_t{0x7E00} : to_half(range_top / 63.0f);
  const uint16_t min_half = to_half(low_top / 63.0f);
  const float d = from_half(d_half), dmin = from_half(min_half);
  uint8_t six[16] = {};
  for (int b = 0; b < kBlocksOfSuper && !nan; ++b) {
    six[b] = six_bits(range[b], d);
    six[8 + b] = six_bits(low[b], dmin);
    const float scale = d * static_cast<float>(six[b]);
    const float min = dmin * static_cast<float>(six[8 + b]), inverse = inverse_of(scale);
    uint8_t q[kBlock];
    float moved[kBlock];
    for (int i = 0; i < kBlock; ++i) moved[i] = x[b * kBlock + i] + min;
    round_block(moved, inverse, 0, 15, q);
    put_nibbles(q, lane, super + kSuperHeader + b * 256);
  }
  store_half(d_half, super + lane * 2);
  store_half(min_half, super + 32 + lane * 2);
  put_packed6(six, lane, super + 64);
}

// ---- GGUF blocks

void repack_q8_0(const std::byte* from, int lane, std::byte* block) {
  uint8_t q[kBlock];
  for (int i = 0; i < kBlock; ++i) {
    q[i] = static_cast<uint8_t>(static_cast<uint8_t>(from[2 + i]) ^ 0x80);  // i8 + 128
  }
  put_bytes(q, lane, block);
  store_half(load_half(from), block + 512 + lane * 2);
}

void repack_q4_0(const std::byte* from, int lane, std::byte* block) {
  // The same pairing of elements i and i + 16 in a byte: only the place changes.
  for (int g = 0; g < 4; ++g) std::memcpy(block + g * 64 + lane * 4, from + 2 + g * 4, 4);
  store_half(load_half(from), block + 256 + lane * 2);
}

void repack_q4_k(const std::byte* from, int lane, std::byte* super) {
  const auto s = [&](int i) { return static_cast<unsigned>(from[4 + i]); };
  uint8_t six[16];
  for (int j = 0; j < kBlocksOfSuper; ++j) {
    const unsigned scale = j < 4 ? s(j) & 63 : (s(j + 4) & 15) | (s(j - 4) >> 6) << 4;
    const unsigned min = j < 4 ? s(j + 4) & 63 : (s(j + 4) >> 4) | (s(j) >> 6) << 4;
    six[j] = static_cast<uint8_t>(scale);
    six[8 + j] = static_cast<uint8_t>(min);
  }
  for (int b = 0; b < kBlocksOfSuper; ++b) {
    const std::byte* pair = from + 16 + b / 2 * 32;  // low nibbles block 2c, high ones 2c + 1
    uint8_t q[kBlock];
    for (int i = 0; i < kBlock; ++i) {
      const unsigned byte = static_cast<unsigned>(pair[i]);
      q[i] = static_cast<uint8_t>(b % 2 == 0 ? byte & 15 : byte >> 4);
    }
    put_nibbles(q, lane, super + kSuperHeader + b * 256);
  }
  store_half(load_half(from), super + lane * 2);
  store_half(load_half(from + 2), super + 32 + lane * 2);
  put_packed6(six, lane, super + 64);
}

}  // namespace

void pack_row(WeightType type, const float* x, int64_t cols, int lane, std::byte* panel) {
  const int64_t step = panel_block_bytes(type), width = weight_block(type);
  for (int64_t b = 0; b < cols / width; ++b) {
    std::byte* at = panel + b * step;
    if (type == WeightType::kQ8) {
      pack_q8(x + b * width, lane, at);
    } else if (type == WeightType::kQ4) {
      pack_q4(x + b * width, lane, at);
    } else {
      pack_q4min(x + b * width, lane, at);
    }
  }
}

void repack_row(WeightType type, const std::byte* row, int64_t cols, int lane, std::byte* panel) {
  const int64_t step = panel_block_bytes(type), width = weight_block(type);
  const int64_t from = ggml_row_bytes_of(type, width);
  for (int64_t b = 0; b < cols / width; ++b) {
    std::byte* at = panel + b * step;
    if (type == WeightType::kQ8) {
      repack_q8_0(row + b * from, lane, at);
    } else if (type == WeightType::kQ4) {
      repack_q4_0(row + b * from, lane, at);
    } else {
      repack_q4_k(row + b * from, lane, at);
    }
  }
}

void unpack_row(WeightType type, const std::byte* panel, int64_t cols, int lane, float* out) {
  uint8_t q[kBlock], six[16];
  for (int64_t b = 0; b < cols / kQuantBlock; ++b) {
    float* y = out + b * kBlock;
    if (type == WeightType::kQ4Min) {
      const std::byte* super = panel + b / kBlocksOfSuper * panel_block_bytes(type);
      const int64_t j = b % kBlocksOfSuper;
      get_packed6(super + 64, lane, six);
      get_numbers(type, super + kSuperHeader + j * 256, lane, q);
      const float scale = from_half(load_half(super + lane * 2)) * static_cast<float>(six[j]);
      const float min =
          from_half(load_half(super + 32 + lane * 2)) * static_cast<float>(six[8 + j]);
      for (int i = 0; i < kBlock; ++i) y[i] = scale * static_cast<float>(q[i]) - min;
      continue;
    }
    const std::byte* block = panel + b * panel_block_bytes(type);
    const bool wide = type == WeightType::kQ8;
    get_numbers(type, block, lane, q);
    const float scale = from_half(load_half(block + (wide ? 512 : 256) + lane * 2));
    for (int i = 0; i < kBlock; ++i) y[i] = scale * static_cast<float>(q[i] - (wide ? 128 : 8));
  }
}

}  // namespace braid
