// Products of f32 in parts against double precision, beside what a sum in f32 makes of them.

#include "braid/kernels/gemm/parts.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "braid/base/rng.h"
#include "braid/kernels/gemm/gemm.h"
#include "braid/kernels/simd/amx.h"

namespace braid {
namespace {

std::vector<float> normal(int64_t count, uint64_t seed) {
  std::vector<float> x(static_cast<size_t>(count));
  const Rng rng(seed, "parts_test");
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(rng.normal(i));
  return x;
}

struct Errors {
  double parts = 0, f32 = 0;  // worst |c - want| over sum |a||b|
};

// c (+)= a b for a [m, k], b [k, n].
Errors errors(PartCounts parts, int64_t m, int64_t n, int64_t k, bool add,
              const std::vector<float>& a, const std::vector<float>& b) {
  const int64_t padded = (m + 15) / 16 * 16;
  std::vector<float> left(static_cast<size_t>(parts_floats(parts.left, m, k)));
  std::vector<float> right(static_cast<size_t>(parts_floats(parts.right, n, k)));
  std::vector<float> c = normal(padded * n, 3);
  const std::vector<float> before = c;
  split_left(parts, a.data(), k, m, k, 0.5f, left.data());
  split_right(parts, b.data(), n, k, n, right.data());
  multiply_parts(parts, padded, n, k, left.data(), right.data(), add, c.data(), n);
  Errors e;
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t j = 0; j < n; ++j) {
      const size_t at = static_cast<size_t>(r * n + j);
      double want = add ? before[at] : 0, size = std::abs(want);
      float sum = static_cast<float>(want);
      for (int64_t i = 0; i < k; ++i) {
        const float x = 0.5f * a[static_cast<size_t>(r * k + i)];
        const float y = b[static_cast<size_t>(i * n + j)];
        want += double{x} * y;
        size += std::abs(double{x} * y);
        sum = std::fma(x, y, sum);
      }
      e.parts = std::max(e.parts, std::abs(c[at] - want) / size);
      e.f32 = std::max(e.f32, std::abs(sum - want) / size);
    }
  }
  return e;
}

}  // namespace

TEST_CASE("a product in parts errs no more than a sum in f32") {
  if (!amx()) return;
  for (const int64_t m : {1, 16, 40, 64}) {
    for (const int64_t n : {16, 64, 80}) {
      for (const int64_t k : {32, 128, 192}) {
        CAPTURE(m);
        CAPTURE(n);
        CAPTURE(k);
        const std::vector<float> a = normal(m * k, 1);
        std::vector<float> b = normal(k * n, 2);
        for (const bool add : {false, true}) {
          const Errors e = errors({3, 3}, m, n, k, add, a, b);
          CHECK(e.parts < 4e-7);
          CHECK(e.parts < 2 * e.f32 + 1e-7);
          // The parts left out of either number, below 2^-17 of it, and the product of the small
          // ones.
          CHECK(errors({2, 2}, m, n, k, add, a, b).parts < 0x1p-15);
        }
        std::vector<uint16_t> narrow(b.size());
        narrow_to_bf16(b.data(), k * n, narrow.data());
        widen_bf16(narrow.data(), k * n, b.data());
        CHECK(errors({3, 1}, m, n, k, false, a, b).parts < 4e-7);
        CHECK(errors({2, 1}, m, n, k, false, a, b).parts < 0x1p-17);
      }
    }
  }
}

TEST_CASE("bf16 weights given by their rows are the right operand of their transpose") {
  if (!amx()) return;
  const int64_t k = 96, n = 48;
  const std::vector<float> b = normal(k * n, 2);
  for (const int64_t columns : {48, 37}) {  // the last tile whole or not
    std::vector<float> cut = b;
    std::vector<uint16_t> turned(b.size());
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        float& value = cut[static_cast<size_t>(i * n + j)];
        if (j >= columns) value = 0;
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        turned[static_cast<size_t>(j * k + i)] = static_cast<uint16_t>(bits >> 16);
      }
    }
    std::vector<float> x(static_cast<size_t>(parts_floats(1, n, k))), y = x;
    split_right({3, 1}, cut.data(), n, k, n, x.data());
    turn_right(turned.data(), k, k, columns, y.data());
    CHECK(std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0);
  }
}

// One number times one: the number, up to the smallest of its parts.
float through(PartCounts parts, float x) {
  std::vector<float> one(32 * 16, 0.0f), row(32, 0.0f), c(256);
  one[0] = 1.0f;
  row[0] = x;
  std::vector<float> right(static_cast<size_t>(parts_floats(3, 16, 32)));
  std::vector<float> left(static_cast<size_t>(parts_floats(3, 1, 32)));
  split_right(parts, one.data(), 16, 32, 16, right.data());
  split_left(parts, row.data(), 32, 1, 32, 1.0f, left.data());
  multiply_parts(parts, 16, 16, 32, left.data(), right.data(), false, c.data(), 16);
  return c[0];
}

TEST_CASE("numbers of every size are the sum of their parts") {
  if (!amx()) return;
  for (const float x : {1.0f, -3.14159274f, 16777215.0f, 1e-30f, 3.4e38f, -1.1e-20f}) {
    CHECK(through({}, x) == x);
    for (const PartCounts parts : {PartCounts{2, 2}, PartCounts{2, 1}})
      CHECK(std::abs(through(parts, x) - x) <= std::abs(x) * 0x1p-16f);
  }
}

TEST_CASE("what is no number stays none in every split") {
  if (!amx()) return;
  for (const uint32_t bits :
       {0x7F800000u, 0xFF800000u, 0x7FC00000u, 0x7FFF8001u, 0x7FFFFFFFu, 0xFFFFFFFFu}) {
    for (const PartCounts parts : {PartCounts{3, 3}, PartCounts{2, 2}, PartCounts{2, 1}}) {
      CAPTURE(bits);
      CHECK_FALSE(std::isfinite(through(parts, std::bit_cast<float>(bits))));
    }
  }
}

}  // namespace braid
