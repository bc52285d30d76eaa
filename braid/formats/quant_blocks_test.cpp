#include "braid/formats/quant_blocks.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "braid/base/rng.h"

namespace braid {
namespace {

// The definition of IEEE half, by powers of two.
double half_value(uint16_t h) {
  const int exponent = (h >> 10) & 31, mantissa = h & 1023;
  const double sign = (h & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) return mantissa != 0 ? NAN : sign * INFINITY;
  return sign *
         (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

TEST_CASE("every half widens exactly and narrows back") {
  for (uint32_t h = 0; h < 65536; ++h) {
    const uint16_t bits = static_cast<uint16_t>(h);
    const double want = half_value(bits);
    const float got = f16_to_f32(bits);
    if (std::isnan(want)) {
      REQUIRE(std::isnan(got));
      REQUIRE(std::isnan(half_value(f32_to_f16(got))));
    } else {
      REQUIRE(static_cast<double>(got) == want);
      REQUIRE(std::signbit(got) == std::signbit(want));
      REQUIRE(f32_to_f16(got) == bits);
    }
  }
}

TEST_CASE("narrowing rounds to the nearest half, ties to even") {
  for (uint32_t h = 0; h < 0x7BFF; ++h) {
    const uint16_t low = static_cast<uint16_t>(h), high = static_cast<uint16_t>(h + 1);
    const float middle = static_cast<float>((half_value(low) + half_value(high)) / 2);
    const uint16_t even = (low & 1) == 0 ? low : high;
    REQUIRE(f32_to_f16(middle) == even);
    REQUIRE(f32_to_f16(std::nextafter(middle, 0.0f)) == low);
    REQUIRE(f32_to_f16(std::nextafter(middle, INFINITY)) == high);
  }
  CHECK(f32_to_f16(65519.996f) == 0x7BFF);
  CHECK(f32_to_f16(65520.0f) == 0x7C00);
  CHECK(f32_to_f16(-1e30f) == 0xFC00);
  CHECK(f32_to_f16(1e-30f) == 0);
  CHECK(f32_to_f16(-1e-30f) == 0x8000);
  CHECK(f32_to_bf16(1.00390625f) == 0x3F80);  // a tie: to even
  CHECK(f32_to_bf16(1.01171875f) == 0x3F82);
  CHECK(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7F800001u)))));
}

TEST_CASE("fp8 by its definition") {
  CHECK(f8_e4m3_to_f32(0x7E) == 448.0f);
  CHECK(f8_e4m3_to_f32(0x01) == 0x1p-9f);
  CHECK(f8_e4m3_to_f32(0xB8) == -1.0f);
  CHECK(std::isnan(f8_e4m3_to_f32(0x7F)));
  CHECK(std::isnan(f8_e4m3_to_f32(0xFF)));
  CHECK(f8_e5m2_to_f32(0x3C) == 1.0f);
  CHECK(f8_e5m2_to_f32(0x7B) == 57344.0f);
  CHECK(std::isinf(f8_e5m2_to_f32(0xFC)));
  CHECK(f8_e8m0_to_f32(127) == 1.0f);
  CHECK(f8_e8m0_to_f32(0) == 0x1p-127f);
  CHECK(std::isnan(f8_e8m0_to_f32(255)));
}

// What is stored comes back: encode(decode(blocks)) = blocks where the largest value fixes the
// scale.
TEST_CASE("encoding rounds to the nearest step and keeps what is exact") {
  std::vector<float> x(320);
  Rng rng(7, 1);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(rng.normal(i));
  for (size_t i = 32; i < 64; ++i) x[i] = 0;  // an empty block
  for (const GgmlType type :
       {GgmlType::kQ8_0, GgmlType::kQ4_0, GgmlType::kF16, GgmlType::kBF16, GgmlType::kF32}) {
    std::vector<std::byte> bytes(static_cast<size_t>(ggml_row_bytes(type, 320)));
    std::vector<float> back(320), again(320);
    encode_row(type, x.data(), 320, bytes.data());
    decode_row(type, bytes.data(), 320, back.data());
    const double steps = type == GgmlType::kQ8_0 ? 127 : type == GgmlType::kQ4_0 ? 8 : 128;
    for (size_t b = 0; b < 10; ++b) {
      double top = 0;
      for (size_t i = 32 * b; i < 32 * b + 32; ++i) top = std::max(top, std::fabs(double(x[i])));
      for (size_t i = 32 * b; i < 32 * b + 32; ++i) {
        // Half a step, or a whole one at the short end of Q4_0; and the rounded scale.
        const double bound = top / steps * (type == GgmlType::kQ4_0 ? 1.01 : 0.56);
        REQUIRE(std::fabs(double(back[i]) - double(x[i])) <= bound);
      }
    }
    CHECK(back[40] == 0.0f);
  }
  // Halves go away from zero: 127 steps of 1, so 2.5 becomes 3 and -2.5 becomes -3.
  std::vector<float> y(32, 2.5f);
  y[0] = 127;
  y[1] = -2.5f;
  y[2] = 0.49999997f;
  std::byte b[34];
  encode_row(GgmlType::kQ8_0, y.data(), 32, b);
  CHECK(static_cast<int8_t>(b[2]) == 127);
  CHECK(static_cast<int8_t>(b[3]) == -3);
  CHECK(static_cast<int8_t>(b[4]) == 0);
  CHECK(static_cast<int8_t>(b[5]) == 3);
}

TEST_CASE("a NaN or an infinity makes its block NaN, what is too small for a half makes it zero") {
  for (const GgmlType type : {GgmlType::kQ8_0, GgmlType::kQ4_0}) {
    for (const float odd : {std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::infinity(), 1e-44f}) {
      CAPTURE(odd);
      std::vector<float> x(64, 0.0f), back(64, 1.0f);
      x[5] = -odd;
      x[40] = 1.0f;
      std::vector<std::byte> bytes(static_cast<size_t>(ggml_row_bytes(type, 64)));
      encode_row(type, x.data(), 64, bytes.data());
      decode_row(type, bytes.data(), 64, back.data());
      for (size_t i = 0; i < 32; ++i) CHECK((odd < 1 ? back[i] == 0.0f : std::isnan(back[i])));
      CHECK(back[40] == doctest::Approx(1.0).epsilon(0.001));
    }
  }
}

TEST_CASE("what MXFP4 holds goes to f32 and back") {
  std::vector<std::byte> block(17), again(17);
  std::vector<float> x(32), back(32);
  for (int scale = 0; scale < 253; ++scale) {  // six times a larger one is no f32
    block[0] = static_cast<std::byte>(scale);
    for (int i = 1; i < 17; ++i)
      block[static_cast<size_t>(i)] = static_cast<std::byte>(scale * 29 + i * 31);
    decode_row(GgmlType::kMxfp4, block.data(), 32, x.data());
    encode_row(GgmlType::kMxfp4, x.data(), 32, again.data());
    decode_row(GgmlType::kMxfp4, again.data(), 32, back.data());
    CHECK(x == back);
  }
}

TEST_CASE("types know their sizes") {
  CHECK(find_ggml_type(4) == nullptr);
  CHECK(find_ggml_type(1000) == nullptr);
  CHECK(ggml_row_bytes(GgmlType::kQ4_K, 512) == 288);
  CHECK(ggml_row_bytes(GgmlType::kMxfp4, 64) == 34);
  CHECK(ggml_type_info(GgmlType::kQ6_K).bytes == 210);
}

}  // namespace
}  // namespace braid
