#include "braid/formats/quant_blocks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "braid/base/error.h"

namespace braid {
namespace {

constexpr GgmlTypeInfo info(uint32_t number, const char* name, uint32_t values, uint32_t bytes,
                            bool decodes = false) {
  return {static_cast<GgmlType>(number), name, values, bytes, decodes};
}

constexpr GgmlTypeInfo kTypes[] = {
    info(0, "F32", 1, 4, true),
    info(1, "F16", 1, 2, true),
    info(2, "Q4_0", 32, 18, true),
    info(3, "Q4_1", 32, 20, true),
    info(6, "Q5_0", 32, 22, true),
    info(7, "Q5_1", 32, 24, true),
    info(8, "Q8_0", 32, 34, true),
    info(9, "Q8_1", 32, 36),
    info(10, "Q2_K", 256, 84, true),
    info(11, "Q3_K", 256, 110, true),
    info(12, "Q4_K", 256, 144, true),
    info(13, "Q5_K", 256, 176, true),
    info(14, "Q6_K", 256, 210, true),
    info(15, "Q8_K", 256, 292),
    info(16, "IQ2_XXS", 256, 66),
    info(17, "IQ2_XS", 256, 74),
    info(18, "IQ3_XXS", 256, 98),
    info(19, "IQ1_S", 256, 50),
    info(20, "IQ4_NL", 32, 18, true),
    info(21, "IQ3_S", 256, 110),
    info(22, "IQ2_S", 256, 82),
    info(23, "IQ4_XS", 256, 136, true),
    info(24, "I8", 1, 1),
    info(25, "I16", 1, 2),
    info(26, "I32", 1, 4),
    info(27, "I64", 1, 8),
    info(28, "F64", 1, 8, true),
    info(29, "IQ1_M", 256, 56),
    info(30, "BF16", 1, 2, true),
    info(34, "TQ1_0", 256, 54),
    info(35, "TQ2_0", 256, 66),
    info(39, "MXFP4", 32, 17, true),
    info(40, "NVFP4", 64, 36),
};

constexpr float kFp4[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                            -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

// The sixteen values of IQ4_NL and IQ4_XS, which stand closer together near zero.
constexpr int8_t kUneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                1,    13,   25,  38,  53,  69,  89,  113};

uint16_t load16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, 2);
  return v;
}

uint32_t load32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, 4);
  return v;
}

float half_at(const uint8_t* p) { return f16_to_f32(load16(p)); }

// One expression without branches, so that a loop over it becomes vectors.
inline float widen_half(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t rest = h & 0x7FFF;
  const uint32_t bits = (rest << 13) + (112u << 23);
  const uint32_t special = rest >= 0x7C00 ? 112u << 23 : 0;  // infinity and NaN: exponent 255
  const float subnormal = static_cast<float>(static_cast<int32_t>(rest)) * 0x1p-24f;
  const uint32_t chosen = rest < 0x0400 ? std::bit_cast<uint32_t>(subnormal) : bits + special;
  return std::bit_cast<float>(sign | chosen);
}

inline uint16_t narrow_half(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const uint32_t a = u & 0x7FFFFFFF;
  const uint32_t sign = (u >> 16) & 0x8000;
  // 0.5 has a last place of 2^-24, that of subnormal halves: the sum rounds as they do.
  const uint32_t small = std::bit_cast<uint32_t>(std::bit_cast<float>(a) + 0.5f) - 0x3F000000u;
  const uint32_t normal = (a + 0xFFF + ((a >> 13) & 1) - (112u << 23)) >> 13;
  uint32_t h = a < 0x38800000 ? small : normal;
  h = a >= 0x477FF000 ? 0x7C00 : h;                       // from 65520 on
  h = a > 0x7F800000 ? 0x7E00 | ((a >> 13) & 0x3FF) : h;  // NaN
  return static_cast<uint16_t>(sign | h);
}

inline uint16_t narrow_bf16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (u + 0x7FFF + ((u >> 16) & 1)) >> 16;
  return static_cast<uint16_t>((u & 0x7FFFFFFF) > 0x7F800000 ? (u >> 16) | 0x40 : rounded);
}

// Blocks of 32, one function each: `b` at the block, 32 values to `out`.
void block_q8_0(const uint8_t* b, float* out) {
  const float d = half_at(b);
  int8_t q[32];
  std::memcpy(q, b + 2, 32);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(q[i]);
}

void block_q4_0(const uint8_t* b, float* out) {
  const float d = half_at(b);
  uint8_t q[16];
  std::memcpy(q, b + 2, 16);
  for (int i = 0; i < 16; ++i) out[i] = d * static_cast<float>((q[i] & 15) - 8);
  for (int i = 0; i < 16; ++i) out[i + 16] = d * static_cast<float>((q[i] >> 4) - 8);
}

void block_q4_1(const uint8_t* b, float* out) {
  const float d = half_at(b), m = half_at(b + 2);
  uint8_t q[16];
  std::memcpy(q, b + 4, 16);
  for (int i = 0; i < 16; ++i) out[i] = static_cast<float>(q[i] & 15) * d + m;
  for (int i = 0; i < 16; ++i) out[i + 16] = static_cast<float>(q[i] >> 4) * d + m;
}

void block_q5_0(const uint8_t* b, float* out) {
  const float d = half_at(b);
  const uint32_t high = load32(b + 2);
  uint8_t q[16];
  std::memcpy(q, b + 6, 16);
  for (int i = 0; i < 16; ++i) {
    const int low = (q[i] & 15) | static_cast<int>((high >> i) & 1) << 4;
    out[i] = static_cast<float>(low - 16) * d;
  }
  for (int i = 0; i < 16; ++i) {
    const int top = (q[i] >> 4) | static_cast<int>((high >> (i + 16)) & 1) << 4;
    out[i + 16] = static_cast<float>(top - 16) * d;
  }
}

void block_q5_1(const uint8_t* b, float* out) {
  const float d = half_at(b), m = half_at(b + 2);
  const uint32_t high = load32(b + 4);
  uint8_t q[16];
  std::memcpy(q, b + 8, 16);
  for (int i = 0; i < 16; ++i) {
    out[i] = static_cast<float>((q[i] & 15) | static_cast<int>((high >> i) & 1) << 4) * d + m;
  }
  for (int i = 0; i < 16; ++i) {
    const int top = (q[i] >> 4) | static_cast<int>((high >> (i + 16)) & 1) << 4;
    out[i + 16] = static_cast<float>(top) * d + m;
  }
}

void block_mxfp4(const uint8_t* b, float* out) {
  const float scale = f8_e8m0_to_f32(b[0]);
  float table[16];
  for (int i = 0; i < 16; ++i) table[i] = kFp4[i] * scale;
  for (int i = 0; i < 16; ++i) {
    out[i] = table[b[1 + i] & 15];
    out[i + 16] = table[b[1 + i] >> 4];
  }
}

// 32 values of four bits, low nibbles first.
void uneven_nibbles(const uint8_t* in, float d, float* out) {
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(kUneven[in[i] & 15]);
    out[i + 16] = d * static_cast<float>(kUneven[in[i] >> 4]);
  }
}

void block_iq4_nl(const uint8_t* b, float* out) { uneven_nibbles(b + 2, half_at(b), out); }

// Sub-blocks of 32, each with a scale of 6 bits: four in one place, two in another.
void block_iq4_xs(const uint8_t* b, float* out) {
  const float d = half_at(b);
  const int high = load16(b + 2);
  for (int j = 0; j < 8; ++j) {
    const int scale = ((b[4 + j / 2] >> (4 * (j % 2))) & 15) | ((high >> (2 * j)) & 3) << 4;
    uneven_nibbles(b + 8 + 16 * j, d * static_cast<float>(scale - 32), out + 32 * j);
  }
}

// Of Q2_K and Q3_K, sub-block j of 16 values: two bits each, of 32 bytes that four pairs of
// sub-blocks share.
struct TwoBits {
  const uint8_t* bytes;
  int shift;
  int at(int l) const { return (bytes[l] >> shift) & 3; }
};
TwoBits two_bits(const uint8_t* codes, int j) {
  return {codes + 32 * (j / 8) + 16 * (j % 2), j % 8 / 2 * 2};
}

void block_q2_k(const uint8_t* b, float* out) {
  const float d = half_at(b + 80), dmin = half_at(b + 82);
  for (int j = 0; j < 16; ++j) {
    const float scale = d * static_cast<float>(b[j] & 15),
                min = dmin * static_cast<float>(b[j] >> 4);
    const TwoBits codes = two_bits(b + 16, j);
    for (int l = 0; l < 16; ++l) out[16 * j + l] = scale * static_cast<float>(codes.at(l)) - min;
  }
}

// The third bit of a value is bit j / 2 of a mask of 32 bytes; where it is not set, 4 less.
void block_q3_k(const uint8_t* b, float* out) {
  const float d = half_at(b + 108);
  const uint8_t* scales = b + 96;
  for (int j = 0; j < 16; ++j) {
    const int low = j < 8 ? scales[j] & 15 : scales[j - 8] >> 4;
    const int high = (scales[8 + j % 4] >> (j / 4 * 2)) & 3;
    const float scale = d * static_cast<float>((low | high << 4) - 32);
    const TwoBits codes = two_bits(b + 32, j);
    const uint8_t* mask = b + 16 * (j % 2);
    for (int l = 0; l < 16; ++l) {
      const int less = (mask[l] >> (j / 2)) & 1 ? 0 : 4;
      out[16 * j + l] = scale * static_cast<float>(codes.at(l) - less);
    }
  }
}

// Sub-block j of Q4_K and Q5_K: 6 bits of scale and 6 of minimum, packed in 12 bytes.
struct ScaleMin {
  float scale, min;
};
ScaleMin scale_min(const uint8_t* s, int j, float d, float dmin) {
  const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
  const int min = j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | (s[j] >> 6) << 4;
  return {d * static_cast<float>(scale), dmin * static_cast<float>(min)};
}

void block_q4_k(const uint8_t* b, float* out) {
  const float d = half_at(b), dmin = half_at(b + 2);
  for (int c = 0; c < 4; ++c) {
    const ScaleMin low = scale_min(b + 4, 2 * c, d, dmin);
    const ScaleMin high = scale_min(b + 4, 2 * c + 1, d, dmin);
    uint8_t q[32];
    std::memcpy(q, b + 16 + 32 * c, 32);
    for (int l = 0; l < 32; ++l)
      out[64 * c + l] = low.scale * static_cast<float>(q[l] & 15) - low.min;
    for (int l = 0; l < 32; ++l)
      out[64 * c + 32 + l] = high.scale * static_cast<float>(q[l] >> 4) - high.min;
  }
}

void block_q5_k(const uint8_t* b, float* out) {
  const float d = half_at(b), dmin = half_at(b + 2);
  uint8_t fifth[32];
  std::memcpy(fifth, b + 16, 32);
  for (int c = 0; c < 4; ++c) {
    const ScaleMin low = scale_min(b + 4, 2 * c, d, dmin);
    const ScaleMin high = scale_min(b + 4, 2 * c + 1, d, dmin);
    uint8_t q[32];
    std::memcpy(q, b + 48 + 32 * c, 32);
    for (int l = 0; l < 32; ++l) {
      const int n = (q[l] & 15) | ((fifth[l] >> (2 * c)) & 1) << 4;
      out[64 * c + l] = low.scale * static_cast<float>(n) - low.min;
    }
    for (int l = 0; l < 32; ++l) {
      const int n = (q[l] >> 4) | ((fifth[l] >> (2 * c + 1)) & 1) << 4;
      out[64 * c + 32 + l] = high.scale * static_cast<float>(n) - high.min;
    }
  }
}

void block_q6_k(const uint8_t* b, float* out) {
  const float d = half_at(b + 208);
  int8_t scales[16];
  std::memcpy(scales, b + 192, 16);
  for (int half = 0; half < 2; ++half) {
    uint8_t low[64], top[32];
    std::memcpy(low, b + 64 * half, 64);
    std::memcpy(top, b + 128 + 32 * half, 32);
    for (int k = 0; k < 4; ++k) {
      const uint8_t* nibbles = low + 32 * (k & 1);
      const int shift = k < 2 ? 0 : 4;
      const float s[2] = {d * static_cast<float>(scales[8 * half + 2 * k]),
                          d * static_cast<float>(scales[8 * half + 2 * k + 1])};
      float* to = out + 128 * half + 32 * k;
      for (int part = 0; part < 2; ++part) {
        for (int l = 16 * part; l < 16 * part + 16; ++l) {
          const int n = ((nibbles[l] >> shift) & 15) | ((top[l] >> (2 * k)) & 3) << 4;
          to[l] = s[part] * static_cast<float>(n - 32);
        }
      }
    }
  }
}

template <void (*block)(const uint8_t*, float*)>
void blocks(const uint8_t* in, int64_t n, int values, int bytes, float* out) {
  for (int64_t i = 0; i < n / values; ++i) block(in + i * bytes, out + i * values);
}

bool all_finite(const float* x) {
  uint32_t top = 0;
  for (int i = 0; i < 32; ++i) top = std::max(top, std::bit_cast<uint32_t>(x[i]) & 0x7FFFFFFF);
  return top < 0x7F800000;
}

// A block with a NaN or an infinity in it: all of it decodes to NaN.
void encode_nan(uint8_t* b, size_t codes) {
  const uint16_t nan = 0x7E00;
  std::memcpy(b, &nan, 2);
  std::memset(b + 2, 0, codes);
}

// 1 / d; 0 for what is zero or too small to have an inverse, and zero as a half.
float inverse_of(float d) {
  const float inverse = 1.0f / d;
  return std::isfinite(inverse) ? inverse : 0.0f;
}

void encode_q8_0(const float* x, uint8_t* b) {
  if (!all_finite(x)) return encode_nan(b, 32);
  float top = 0;
  for (int i = 0; i < 32; ++i) top = std::max(top, std::fabs(x[i]));
  const float d = top / 127.0f;
  const float inverse = inverse_of(d);
  const uint16_t stored = narrow_half(d);
  std::memcpy(b, &stored, 2);
  int8_t q[32];
  for (int i = 0; i < 32; ++i) {
    // Halves away from zero, in steps that become vectors.
    const float y = x[i] * inverse;
    const float a = std::fabs(y), whole = std::trunc(a);
    const float rounded = whole + (a - whole >= 0.5f ? 1.0f : 0.0f);
    q[i] = static_cast<int8_t>(static_cast<int32_t>(std::copysign(rounded, y)));
  }
  std::memcpy(b + 2, q, 32);
}

void encode_q4_0(const float* x, uint8_t* b) {
  if (!all_finite(x)) return encode_nan(b, 16);
  float top = 0, signed_top = 0;
  for (int i = 0; i < 32; ++i) {
    if (std::fabs(x[i]) > top) {
      top = std::fabs(x[i]);
      signed_top = x[i];
    }
  }
  const float d = signed_top / -8.0f;
  const float inverse = inverse_of(d);
  const uint16_t stored = narrow_half(d);
  std::memcpy(b, &stored, 2);
  for (int i = 0; i < 16; ++i) {
    const int low = std::min(15, static_cast<int>(x[i] * inverse + 8.5f));
    const int high = std::min(15, static_cast<int>(x[i + 16] * inverse + 8.5f));
    b[2 + i] = static_cast<uint8_t>(low | high << 4);
  }
}

// The scale is the power of two that brings the largest below 8, the nearest of the sixteen values
// counts; ties go to the smaller one.
void encode_mxfp4(const float* x, uint8_t* b) {
  float top = 0;
  for (int i = 0; i < 32; ++i) top = std::max(top, std::fabs(x[i]));
  const int power = top > 0 && std::isfinite(top) ? std::ilogb(top) - 2 : -127;
  b[0] = static_cast<uint8_t>(std::clamp(power + 127, 0, 254));
  const float scale = f8_e8m0_to_f32(b[0]);
  const auto nearest = [&](float v) {
    int best = 0;
    for (int i = 1; i < 8; ++i) {
      if (std::fabs(kFp4[i] * scale - std::fabs(v)) < std::fabs(kFp4[best] * scale - std::fabs(v)))
        best = i;
    }
    return v < 0 ? best | 8 : best;
  };
  for (int i = 0; i < 16; ++i)
    b[1 + i] = static_cast<uint8_t>(nearest(x[i]) | nearest(x[i + 16]) << 4);
}

std::array<float, 256> make_e4m3() {
  std::array<float, 256> t{};
  for (int v = 0; v < 256; ++v) {
    const int exponent = (v >> 3) & 15, mantissa = v & 7;
    float x = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                            : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
    if ((v & 0x7F) == 0x7F) x = std::numeric_limits<float>::quiet_NaN();
    t[static_cast<size_t>(v)] = (v & 0x80) != 0 ? -x : x;
  }
  return t;
}

const std::array<float, 256>& e4m3_table() {
  static const std::array<float, 256> table = make_e4m3();
  return table;
}

}  // namespace

const GgmlTypeInfo* find_ggml_type(uint32_t number) {
  for (const GgmlTypeInfo& t : kTypes) {
    if (static_cast<uint32_t>(t.type) == number) return &t;
  }
  return nullptr;
}

const GgmlTypeInfo& ggml_type_info(GgmlType type) {
  const GgmlTypeInfo* found = find_ggml_type(static_cast<uint32_t>(type));
  BRAID_CHECK(found != nullptr);
  return *found;
}

int64_t ggml_row_bytes(GgmlType type, int64_t n) {
  const GgmlTypeInfo& t = ggml_type_info(type);
  BRAID_CHECK(n >= 0 && n % t.values == 0);
  return n / t.values * t.bytes;
}

float f16_to_f32(uint16_t h) noexcept { return widen_half(h); }
uint16_t f32_to_f16(float x) noexcept { return narrow_half(x); }
uint16_t f32_to_bf16(float x) noexcept { return narrow_bf16(x); }
float f8_e4m3_to_f32(uint8_t v) noexcept { return e4m3_table()[v]; }
// e5m2 is the upper half of a half.
float f8_e5m2_to_f32(uint8_t v) noexcept { return widen_half(static_cast<uint16_t>(v << 8)); }
float f8_e8m0_to_f32(uint8_t v) noexcept {
  if (v == 255) return std::numeric_limits<float>::quiet_NaN();
  return std::bit_cast<float>(v == 0 ? 0x00400000u : static_cast<uint32_t>(v) << 23);
}

void decode_row(GgmlType type, const std::byte* row, int64_t n, float* out) noexcept {
  const uint8_t* in = reinterpret_cast<const uint8_t*>(row);
  switch (type) {
    case GgmlType::kF32:
      if (n > 0) std::memcpy(out, in, static_cast<size_t>(n) * 4);
      return;
    case GgmlType::kF64:
      for (int64_t i = 0; i < n; ++i) {
        double v;
        std::memcpy(&v, in + 8 * i, 8);
        out[i] = static_cast<float>(v);
      }
      return;
    case GgmlType::kF16:
      for (int64_t i = 0; i < n; ++i) out[i] = widen_half(load16(in + 2 * i));
      return;
    case GgmlType::kBF16:
      for (int64_t i = 0; i < n; ++i) out[i] = bf16_to_f32(load16(in + 2 * i));
      return;
    case GgmlType::kQ8_0:
      return blocks<block_q8_0>(in, n, 32, 34, out);
    case GgmlType::kQ4_0:
      return blocks<block_q4_0>(in, n, 32, 18, out);
    case GgmlType::kQ4_1:
      return blocks<block_q4_1>(in, n, 32, 20, out);
    case GgmlType::kQ5_0:
      return blocks<block_q5_0>(in, n, 32, 22, out);
    case GgmlType::kQ5_1:
      return blocks<block_q5_1>(in, n, 32, 24, out);
    case GgmlType::kQ2_K:
      return blocks<block_q2_k>(in, n, 256, 84, out);
    case GgmlType::kQ3_K:
      return blocks<block_q3_k>(in, n, 256, 110, out);
    case GgmlType::kQ4_K:
      return blocks<block_q4_k>(in, n, 256, 144, out);
    case GgmlType::kQ5_K:
      return blocks<block_q5_k>(in, n, 256, 176, out);
    case GgmlType::kQ6_K:
      return blocks<block_q6_k>(in, n, 256, 210, out);
    case GgmlType::kIQ4_NL:
      return blocks<block_iq4_nl>(in, n, 32, 18, out);
    case GgmlType::kIQ4_XS:
      return blocks<block_iq4_xs>(in, n, 256, 136, out);
    case GgmlType::kMxfp4:
      return blocks<block_mxfp4>(in, n, 32, 17, out);
    default:
      BRAID_DCHECK(false);
  }
}

bool ggml_type_encodes(GgmlType type) {
  return type == GgmlType::kF32 || type == GgmlType::kF16 || type == GgmlType::kBF16 ||
         type == GgmlType::kQ8_0 || type == GgmlType::kQ4_0 || type == GgmlType::kMxfp4;
}

void encode_row(GgmlType type, const float* x, int64_t n, std::byte* to) noexcept {
  uint8_t* out = reinterpret_cast<uint8_t*>(to);
  switch (type) {
    case GgmlType::kF32:
      if (n > 0) std::memcpy(out, x, static_cast<size_t>(n) * 4);
      return;
    case GgmlType::kF16:
      for (int64_t i = 0; i < n; ++i) {
        const uint16_t h = narrow_half(x[i]);
        std::memcpy(out + 2 * i, &h, 2);
      }
      return;
    case GgmlType::kBF16:
      for (int64_t i = 0; i < n; ++i) {
        const uint16_t h = narrow_bf16(x[i]);
        std::memcpy(out + 2 * i, &h, 2);
      }
      return;
    case GgmlType::kQ8_0:
      for (int64_t i = 0; i < n / 32; ++i) encode_q8_0(x + 32 * i, out + 34 * i);
      return;
    case GgmlType::kQ4_0:
      for (int64_t i = 0; i < n / 32; ++i) encode_q4_0(x + 32 * i, out + 18 * i);
      return;
    case GgmlType::kMxfp4:
      for (int64_t i = 0; i < n / 32; ++i) encode_mxfp4(x + 32 * i, out + 17 * i);
      return;
    default:
      BRAID_DCHECK(false);
  }
}

void decode_fp8_row(const uint8_t* row, int64_t n, const float* scales, int64_t block,
                    float* out) noexcept {
  const float* table = e4m3_table().data();
  for (int64_t begin = 0; begin < n; begin += block) {
    const float scale = scales[begin / block];
    const int64_t end = begin + block < n ? begin + block : n;
    for (int64_t j = begin; j < end; ++j) out[j] = table[row[j]] * scale;
  }
}

void decode_mxfp4_hf(const uint8_t* blocks_in, const uint8_t* scales, int64_t groups,
                     float* out) noexcept {
  for (int64_t g = 0; g < groups; ++g) {
    const float scale = f8_e8m0_to_f32(scales[g]);
    float table[16];
    for (int i = 0; i < 16; ++i) table[i] = kFp4[i] * scale;
    const uint8_t* b = blocks_in + 16 * g;
    for (int k = 0; k < 16; ++k) {
      out[32 * g + 2 * k] = table[b[k] & 15];
      out[32 * g + 2 * k + 1] = table[b[k] >> 4];
    }
  }
}

}  // namespace braid
