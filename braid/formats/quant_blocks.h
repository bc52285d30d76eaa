#pragma once
// Rows of stored number formats to f32 and back. Bit-exact with ggml for its blocks, with the
// gpt-oss loader for its MXFP4, with the definition for fp8 (docs: specs/checkpoint-formats.md
// sections 3 to 5). Nothing here knows a file; sizes are checked by the caller.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace braid {

// The numbers are those of GGUF files.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kBF16 = 30,
  kMxfp4 = 39,
};

struct GgmlTypeInfo {
  GgmlType type;
  const char* name;
  uint32_t values;  // of a block, along the row
  uint32_t bytes;
  bool decodes;  // decode_row knows it
};
// Of every type that files may hold; null for a number that is none.
const GgmlTypeInfo* find_ggml_type(uint32_t number);
const GgmlTypeInfo& ggml_type_info(GgmlType type);

// Bytes of a row of n values, a multiple of the block.
int64_t ggml_row_bytes(GgmlType type, int64_t n);

// n values of one of the types that decode (F32 F16 BF16 F64 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K
// Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4). `row` needs no alignment.
void decode_row(GgmlType type, const std::byte* row, int64_t n, float* out) noexcept;

// The reverse for F32, F16, BF16, Q8_0, Q4_0 and MXFP4, as ggml's reference quantisers round (what
// MXFP4 holds goes back and forth exactly). NaN and
// infinity have no place in a block: they give bytes without meaning, as in ggml.
bool ggml_type_encodes(GgmlType type);
void encode_row(GgmlType type, const float* x, int64_t n, std::byte* out) noexcept;

float f16_to_f32(uint16_t h) noexcept;
uint16_t f32_to_f16(float x) noexcept;   // nearest even; subnormals kept
uint16_t f32_to_bf16(float x) noexcept;  // nearest even; NaN stays NaN
inline float bf16_to_f32(uint16_t h) noexcept {
  return __builtin_bit_cast(float, static_cast<uint32_t>(h) << 16);
}
float f8_e4m3_to_f32(uint8_t v) noexcept;  // no infinity, 0x7F and 0xFF are NaN
float f8_e5m2_to_f32(uint8_t v) noexcept;
float f8_e8m0_to_f32(uint8_t v) noexcept;  // 2^(v - 127), 255 is NaN

// out[j] = e4m3 row[j] * scales[j / block].
void decode_fp8_row(const uint8_t* row, int64_t n, const float* scales, int64_t block,
                    float* out) noexcept;

// gpt-oss: `groups` blocks of 16 bytes, low nibble first, each with one e8m0 scale; 32 values a
// block.
void decode_mxfp4_hf(const uint8_t* blocks, const uint8_t* scales, int64_t groups,
                     float* out) noexcept;

}  // namespace braid
