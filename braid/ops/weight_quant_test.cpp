// Quantised weights: what they stand for, and products with them against double precision.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "braid/kernels/simd/amx.h"
#include "braid/ops/linear.h"
#include "braid/ops/moe_experts.h"
#include "braid/ops/weight.h"
#include "braid/ops/weight_product.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::random_tensor;
using enum WeightType;

constexpr WeightType kQuantised[] = {kQ8, kQ4, kQ4Min};

Parameter packed(const Context& ctx, WeightType type, const Tensor& value) {
  Parameter p;
  p.value = value;
  const int64_t cols = value.size(-1);
  p.weight = pack_weight(ctx, type, value.shape(), [&](int64_t row, float* out) {
    std::memcpy(out, value.data() + row * cols, static_cast<size_t>(cols) * sizeof(float));
  });
  return p;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

float largest(const float* x, int64_t n) {
  float top = 0;
  for (int64_t i = 0; i < n; ++i) top = std::max(top, std::abs(x[i]));
  return top;
}

// The definition: a block of 32 activations as integers times the largest over 127.
std::vector<double> rounded_row(const float* x, int64_t n) {
  std::vector<double> out;
  for (int64_t b = 0; b < n; b += 32) {
    const float top = largest(x + b, 32);
    const float scale = top / 127.0f, inverse = top > 0 ? 127.0f / top : 0.0f;
    for (int64_t i = b; i < b + 32; ++i) {
      out.push_back(static_cast<double>(std::nearbyint(x[i] * inverse)) * scale);
    }
  }
  return out;
}

// Rows of x of very different sizes, zeros among them.
Tensor activations(const Context& ctx, int64_t rows, int64_t cols) {
  Tensor x = random_tensor(ctx, {rows, cols}, "x");
  for (int64_t i = 0; i < x.count(); ++i) {
    const int64_t block = i / 32;
    x.data()[i] *= block % 7 == 3 ? 0.0f : block % 5 == 1 ? 50.0f : 1.0f;
  }
  return x;
}

// Worst |y - x w^T| over sum |x||w|, x as integers; infinite for anything not finite.
double product_error(const Tensor& y, const Tensor& x, const Tensor& w) {
  const int64_t cols = w.size(1), outs = w.size(0);
  double worst = 0;
  for (int64_t r = 0; r < x.size(0); ++r) {
    const std::vector<double> xs = rounded_row(x.data() + r * cols, cols);
    for (int64_t o = 0; o < outs; ++o) {
      double sum = 0, size = 1e-30;
      for (int64_t i = 0; i < cols; ++i) {
        const double term = xs[static_cast<size_t>(i)] * w.data()[o * cols + i];
        sum += term;
        size += std::abs(term);
      }
      const double error = std::abs(y.data()[r * outs + o] - sum) / size;
      worst = error <= worst ? worst : std::isfinite(error) ? error : INFINITY;
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("a quantised weight stands for its numbers within half a step of its block") {
  Context ctx;
  const int64_t rows = 21, cols = 512;
  const Tensor value = random_tensor(ctx, {rows, cols}, "w", 0.05);
  for (const WeightType type : kQuantised) {
    CAPTURE(weight_type_name(type));
    const Tensor got = dense_value(ctx, packed(ctx, type, value));
    double squares = 0, errors = 0;
    for (int64_t b = 0; b < value.count(); b += 32) {
      const float* x = value.data() + b;
      const float top = largest(x, 32);
      const auto [low, high] = std::minmax_element(x, x + 32);
      // q4's grid reaches from -8 to 7 steps: the far side may be cut by up to a whole one.
      const double step = type == kQ8 ? top / 127 : type == kQ4 ? top / 7.2 : (*high - *low) / 15;
      const double bound = type == kQ8   ? 0.502 * step
                           : type == kQ4 ? 1.15 * step
                                         : 0.5 * step + 0.06 * top;
      for (int64_t i = 0; i < 32; ++i) {
        const double e = got.data()[b + i] - x[i];
        REQUIRE(std::abs(e) <= bound);
        errors += e * e;
        squares += static_cast<double>(x[i]) * x[i];
      }
    }
    const double relative = std::sqrt(errors / squares);
    CHECK(relative < (type == kQ8 ? 0.006 : type == kQ4 ? 0.095 : 0.085));
    CHECK(relative > (type == kQ8 ? 0.002 : 0.04));
  }
}

TEST_CASE("numbers that a type can hold come back as they were") {
  Context ctx;
  Tensor value = Tensor::empty(ctx, {16, 256});
  for (int64_t i = 0; i < value.count(); ++i) {
    value.data()[i] = 0.25f * static_cast<float>((i * 7 + i / 256) % 16 - 8);
  }
  CHECK(same_bits(dense_value(ctx, packed(ctx, kQ8, value)), value));  // as Q4_0 would have them
  for (const WeightType type : {kQ4, kQ8}) {
    if (type == kQ8) {
      for (int64_t b = 0; b < value.count(); b += 32) {
        for (int64_t i = 0; i < 32; ++i)
          value.data()[b + i] = 0.5f * static_cast<float>(i % 32 - 16);
        value.data()[b] = -63.5f;  // 127 steps
      }
    }
    CHECK(same_bits(dense_value(ctx, packed(ctx, type, value)), value));
  }
}

TEST_CASE("products with quantised weights are those of the integers") {
  Context ctx;
  for (const WeightType type : kQuantised) {
    for (const int64_t outs : {1, 16, 40, 97}) {
      for (const int64_t cols : {256, 768}) {
        Parameter w = packed(ctx, type, random_tensor(ctx, {outs, cols}, "w", 0.05));
        const Tensor dense = dense_value(ctx, w);
        for (const int64_t rows : {1, 2, 4, 5, 31}) {
          CAPTURE(weight_type_name(type));
          CAPTURE(outs);
          CAPTURE(rows);
          const Tensor x = activations(ctx, rows, cols);
          CHECK(product_error(linear(ctx, x, w), x, dense) < 1e-6);
          const WithoutAmx vectors;
          CHECK(product_error(linear(ctx, x, w), x, dense) < 1e-6);
        }
      }
    }
  }
}

TEST_CASE("a row's result depends on nothing but the row") {
  Context one, two;
  one.threads = 1;
  two.threads = 2;
  const int64_t outs = 200, cols = 512, rows = 530;  // several row ranges of a product
  const Tensor x = activations(two, rows, cols);
  for (const WeightType type : kQuantised) {
    CAPTURE(weight_type_name(type));
    Parameter w = packed(two, type, random_tensor(two, {outs, cols}, "w", 0.05));
    const Tensor all = linear(two, x, w);
    CHECK(same_bits(all, linear(one, x, w)));
    for (const int64_t n : {1, 2, 3, 4, 5, 13, 300}) {
      const int64_t first = 529 - n;
      const Tensor few = linear(two, x.narrow(0, first, n), w);
      CHECK(same_bits(few, all.narrow(0, first, n)));
    }
  }
}

TEST_CASE("matrix tiles and vectors give the same bits") {
  if (!amx()) return;
  Context ctx;
  for (const WeightType type : kQuantised) {
    CAPTURE(weight_type_name(type));
    for (const int64_t cols : {256, 768, 1280}) {  // slices of 16 blocks, whole and not
      for (const int64_t outs : {7, 64, 72}) {
        Parameter w = packed(ctx, type, random_tensor(ctx, {outs, cols}, "w", 0.05));
        for (const int64_t rows : {5, 16, 33, 300}) {
          const Tensor x = activations(ctx, rows, cols);
          const Tensor tiles = linear(ctx, x, w);
          const WithoutAmx vectors;
          CHECK(same_bits(tiles, linear(ctx, x, w)));
        }
      }
    }
  }
  for (const WeightType type : {kQ8, kQ4}) {  // an odd number of blocks
    Parameter w = packed(ctx, type, random_tensor(ctx, {40, 96}, "w", 0.05));
    const Tensor x = activations(ctx, 20, 96), tiles = linear(ctx, x, w);
    const WithoutAmx vectors;
    CHECK(same_bits(tiles, linear(ctx, x, w)));
  }
}

TEST_CASE("several weights of one input, of any types, give what each gives alone") {
  Context ctx;
  const int64_t cols = 256;
  Parameter q = packed(ctx, kQ8, random_tensor(ctx, {96, cols}, "q", 0.05));
  Parameter k = packed(ctx, kQ4Min, random_tensor(ctx, {40, cols}, "k", 0.05));
  Parameter v = packed(ctx, kBF16, random_tensor(ctx, {40, cols}, "v", 0.05));
  Parameter g;
  g.value = random_tensor(ctx, {3, cols}, "g", 0.05);
  Parameter z = packed(ctx, kQ8, random_tensor(ctx, {64, cols}, "z", 0.05));
  Parameter* const weights[] = {&q, &k, &v, &g, &z};
  for (const int64_t rows : {1, 3, 50}) {
    const Tensor x = activations(ctx, rows, cols);
    const std::vector<Tensor> together = linear_many(ctx, x, weights);
    for (size_t i = 0; i < std::size(weights); ++i) {
      CAPTURE(i);
      CHECK(same_bits(together[i], linear(ctx, x, *weights[i])));
    }
  }
}

TEST_CASE("quantised experts give what a product with each expert's matrix gives") {
  Context ctx;
  const int64_t experts = 5, ffn = 64, width = 256, rows = 70;
  for (const WeightType type : {kQ8, kQ4}) {
    // 2 ffn = 128 rows an expert; and a width that is not a whole number of panels for down.
    Parameter up = packed(ctx, type, random_tensor(ctx, {experts, 2 * ffn, width}, "up", 0.05));
    Parameter down = packed(ctx, type, random_tensor(ctx, {experts, width, ffn}, "down", 0.05));
    const Tensor x = activations(ctx, rows, width);
    Tensor chosen = Tensor::empty(ctx, {rows, 1}, DType::kI32);
    for (int64_t i = 0; i < rows; ++i) {
      chosen.data<int32_t>()[i] = static_cast<int32_t>(i == 9 ? 4 : i % 3);  // one expert idle
    }
    const Tensor y = moe_experts(ctx, x, {&up, &down}, chosen, Tensor::full(ctx, {rows, 1}, 1.0f));
    for (int64_t i = 0; i < rows; ++i) {
      const int32_t e = chosen.data<int32_t>()[i];
      const Tensor both = Tensor::empty(ctx, {1, 2 * ffn}), row = Tensor::empty(ctx, {1, width});
      weight_product(ctx, 1, x.data() + i * width, width, weight_view(up, e), both.data(), 2 * ffn);
      Tensor inner = Tensor::empty(ctx, {1, ffn});
      for (int64_t c = 0; c < ffn; ++c) {
        const double g = both.data()[c];
        inner.data()[c] = static_cast<float>(g / (1 + std::exp(-g)) * both.data()[ffn + c]);
      }
      weight_product(ctx, 1, inner.data(), ffn, weight_view(down, e), row.data(), width);
      double worst = 0, top = 0;
      for (int64_t c = 0; c < width; ++c) {
        worst = std::max<double>(worst, std::abs(row.data()[c] - y.data()[i * width + c]));
        top = std::max<double>(top, std::abs(row.data()[c]));
      }
      REQUIRE(worst <= 0.02 * top);  // the activation's last bit may move a rounding to int8
    }
  }
}

TEST_CASE("a NaN or an infinity in the input does not pass for a number") {
  Context ctx;
  Parameter w = packed(ctx, kQ8, random_tensor(ctx, {32, 64}, "w"));
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    for (const int64_t rows : {2, 9}) {
      Tensor x = random_tensor(ctx, {rows, 64}, "x");
      x.data()[64 + 40] = bad;
      const Tensor y = linear(ctx, x, w);
      for (int64_t o = 0; o < 32; ++o) {
        REQUIRE(std::isfinite(y.data()[o]));
        REQUIRE(!std::isfinite(y.data()[32 + o]));
      }
    }
  }
}

}  // namespace braid
