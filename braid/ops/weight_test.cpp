#include "braid/ops/weight.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "braid/kernels/simd/amx.h"
#include "braid/ops/embedding.h"
#include "braid/ops/linear.h"
#include "braid/ops/moe_experts.h"
#include "braid/ops/rows.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::random_tensor;

Parameter matrix(const Context& ctx, Shape shape, const char* use) {
  Parameter p;
  p.name = use;
  p.value = random_tensor(ctx, shape, use, 0.05);
  return p;
}

// The same numbers kept in another type.
Parameter kept_as(const Context& ctx, WeightType type, const Parameter& p) {
  Parameter q;
  q.name = p.name;
  q.role = p.role;
  q.value = p.value;
  const int64_t cols = p.value.size(-1);
  q.weight = pack_weight(ctx, type, p.value.shape(), [&](int64_t row, float* out) {
    std::memcpy(out, p.value.data() + row * cols, static_cast<size_t>(cols) * sizeof(float));
  });
  return q;
}

// f32 with the numbers that the weight of `p` stands for.
Parameter dense(const Context& ctx, const Parameter& p) {
  Parameter q;
  q.name = p.name;
  q.value = dense_value(ctx, p);
  return q;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

}  // namespace

TEST_CASE("bf16 weights give the bits of their numbers in f32") {
  const WithoutAmx vectors;
  Context ctx;
  const Parameter w = kept_as(ctx, WeightType::kBF16, matrix(ctx, {90, 75}, "w"));
  Parameter mine = w, wide = dense(ctx, w);
  for (const int64_t rows : {1, 3, 4, 5, 40}) {
    const Tensor x = random_tensor(ctx, {rows, 75}, "x");
    CHECK(same_bits(linear(ctx, x, mine), linear(ctx, x, wide)));
  }
  const std::vector<int32_t> ids = {0, 89, 4, 4};
  CHECK(same_bits(embedding(ctx, ids, mine), embedding(ctx, ids, wide)));
}

TEST_CASE("products of many rows with bf16 weights are rounded no worse than f32") {
  Context ctx;
  const Tensor all = random_tensor(ctx, {300, 608}, "x");
  for (const int64_t outs : {33, 544}) {
    for (const int64_t cols : {96, 608}) {
      const Parameter w = kept_as(ctx, WeightType::kBF16, matrix(ctx, {outs, cols}, "w"));
      const Tensor wide = dense(ctx, w).value;
      for (const int64_t rows : {16, 40, 300}) {
        CAPTURE(outs);
        CAPTURE(cols);
        CAPTURE(rows);
        const Tensor x = packed(ctx, all.narrow(0, 0, rows).narrow(1, 0, cols));
        Parameter mine = w;
        const Tensor y = linear(ctx, x, mine);
        double worst = 0;
        for (int64_t i = 0; i < y.count(); ++i) {
          const float *a = x.data() + i / outs * cols, *b = wide.data() + i % outs * cols;
          double sum = 0, size = 0;
          for (int64_t k = 0; k < cols; ++k) {
            sum += double{a[k]} * b[k];
            size += std::abs(double{a[k]} * b[k]);
          }
          worst = std::max(worst, std::abs(y.data()[i] - sum) / size);
        }
        CHECK(worst < 4e-7);
      }
    }
  }
}

TEST_CASE("experts of any type go through the same product") {
  Context ctx;
  const int64_t experts = 4, ffn = 24, width = 40, rows = 33;
  Parameter up = kept_as(ctx, WeightType::kBF16, matrix(ctx, {experts, 2 * ffn, width}, "up"));
  Parameter down = kept_as(ctx, WeightType::kBF16, matrix(ctx, {experts, width, ffn}, "down"));
  Parameter wide_up = dense(ctx, up), wide_down = dense(ctx, down);
  const Tensor x = random_tensor(ctx, {rows, width}, "x");
  Tensor chosen = Tensor::empty(ctx, {rows, 2}, DType::kI32);
  for (int64_t i = 0; i < rows; ++i) {
    chosen.data<int32_t>()[2 * i] = static_cast<int32_t>(i % 3);  // the last expert has one row
    chosen.data<int32_t>()[2 * i + 1] = i == 7 ? 3 : static_cast<int32_t>((i + 1) % 3);
  }
  const Tensor weights = random_tensor(ctx, {rows, 2}, "weights");
  CHECK(same_bits(moe_experts(ctx, x, {&up, &down}, chosen, weights),
                  moe_experts(ctx, x, {&wide_up, &wide_down}, chosen, weights)));
}

TEST_CASE("bf16 rounds to nearest even and keeps NaN and infinities") {
  Context ctx;
  const std::vector<float> in = {1.0f,     1.00390625f, 1.01171875f, -0.0f,
                                 INFINITY, -INFINITY,   NAN,         3.4e38f};
  const auto w = pack_weight(ctx, WeightType::kBF16, {1, 8},
                             [&](int64_t, float* out) { std::copy(in.begin(), in.end(), out); });
  std::vector<float> out(8);
  weight_row(*w, 0, out.data());
  CHECK(out[0] == 1.0f);
  CHECK(out[1] == 1.0f);       // halfway, to even
  CHECK(out[2] == 1.015625f);  // halfway, to even
  CHECK(std::signbit(out[3]));
  CHECK(out[4] == INFINITY);
  CHECK(out[5] == -INFINITY);
  CHECK(std::isnan(out[6]));
  CHECK(out[7] == INFINITY);  // past the middle of the largest bf16 and the next
}

TEST_CASE("the type of a weight follows its role and its shape") {
  Context ctx;
  const auto type = [&](ParamRole role, Shape shape, WeightType asked, bool keep = false) {
    Parameter p;
    p.role = role;
    p.value = Tensor::empty(ctx, shape);
    p.keep_f32 = keep;
    return weight_type_for(p, asked);
  };
  using enum WeightType;
  CHECK(type(ParamRole::kMatrix, {128, 256}, kQ8) == kQ8);
  CHECK(type(ParamRole::kMatrix, {8, 128, 256}, kQ4Min) == kQ4Min);
  CHECK(type(ParamRole::kMatrix, {128, 96}, kQ4Min) == kQ4);
  CHECK(type(ParamRole::kMatrix, {128, 100}, kQ8) == kF32);
  CHECK(type(ParamRole::kMatrix, {128, 100}, kBF16) == kBF16);
  CHECK(type(ParamRole::kMatrix, {32, 256}, kBF16) == kF32);
  CHECK(type(ParamRole::kMatrix, {128, 256}, kQ8, true) == kF32);
  CHECK(type(ParamRole::kVector, {128, 256}, kQ8) == kF32);
  CHECK(type(ParamRole::kEmbedding, {300, 256}, kQ4) == kQ8);
}

}  // namespace braid
