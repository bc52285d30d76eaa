#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "braid/base/rng.h"
#include "braid/ops/bias.h"
#include "braid/ops/cross_entropy.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/embedding.h"
#include "braid/ops/l2_norm.h"
#include "braid/ops/linear.h"
#include "braid/ops/norm.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

Tensor random(const Context& ctx, Shape shape, const char* use) {
  Tensor t = Tensor::empty(ctx, shape);
  const Rng rng(7, use);
  for (int64_t i = 0; i < t.count(); ++i)
    t.data()[i] = static_cast<float>(rng.normal(static_cast<uint64_t>(i)));
  return t;
}

double weighted_sum(const Tensor& y, const Tensor& up) {
  double s = 0;
  for (int64_t i = 0; i < y.count(); ++i) s += static_cast<double>(y.data()[i]) * up.data()[i];
  return s;
}

// Central differences of sum(up * f(x)) against the tape, relative to the largest gradient.
void check_gradient(Tensor x, const std::function<Tensor(const Context&, const Tensor&)>& f,
                    Parameter* p = nullptr) {
  Context ctx;
  Tape tape;
  if (p != nullptr) p->grad = Tensor::zeros(ctx, p->value.shape());
  Context train = ctx;
  train.tape = &tape;
  tape.watch(x);
  Tensor y = f(train, x);
  Tensor up = random(ctx, y.shape(), "up");
  tape.backward(ctx, y, up);
  const auto check = [&](Tensor at, const Tensor& got) {
    REQUIRE(got.defined());
    const double h = 1e-2;
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < at.count(); ++i) {
      const float keep = at.data()[i];
      at.data()[i] = static_cast<float>(keep + h);
      const double plus = weighted_sum(f(ctx, x), up);
      at.data()[i] = static_cast<float>(keep - h);
      const double minus = weighted_sum(f(ctx, x), up);
      at.data()[i] = keep;
      const double want = (plus - minus) / (2 * h);
      REQUIRE(std::isfinite(got.data()[i]));
      worst = std::max(worst, std::abs(want - got.data()[i]));
      largest = std::max(largest, std::abs(want));
    }
    CHECK(worst <=
          3e-3 * largest);  // f32 differences at h = 1e-2: about 1e-3 of truncation and rounding
  };
  check(x, tape.grad(x));
  if (p != nullptr) check(p->value, p->grad);
}

}  // namespace

TEST_CASE("gradients of the basic ops agree with central differences") {
  Context ctx;
  Parameter w{"w", ParamRole::kMatrix, random(ctx, {9, 5}, "w"), {}, {}};
  Parameter gain{"gain", ParamRole::kVector, random(ctx, {6}, "gain"), {}, {}};
  check_gradient(
      random(ctx, {7, 5}, "x"), [&](const Context& c, const Tensor& x) { return linear(c, x, w); },
      &w);
  check_gradient(
      random(ctx, {4, 6}, "x"),
      [&](const Context& c, const Tensor& x) { return rms_norm(c, x, gain, 1e-6); }, &gain);
  check_gradient(
      random(ctx, {4, 18}, "x"),
      [&](const Context& c, const Tensor& x) {
        return rms_norm(c, reshape(c, x, {4, 3, 6}), gain, 1e-6, true);
      },
      &gain);
  check_gradient(random(ctx, {5, 8}, "x"), [](const Context& c, const Tensor& x) {
    std::vector<Tensor> parts = split_columns(c, x, {3, 2, 3});
    return gated(c, parts[0], sigmoid_mul(c, parts[2], silu(c, parts[0])));
  });
  // One input through several weights, one of which gets no gradient.
  Parameter other{"other", ParamRole::kMatrix, random(ctx, {9, 5}, "other"), {}, {}};
  check_gradient(
      random(ctx, {7, 5}, "x"),
      [&](const Context& c, const Tensor& x) {
        Parameter* const weights[] = {&other, &w, &other};
        const std::vector<Tensor> y = linear_many(c, x, weights);
        return mul(c, y[0], y[1]);
      },
      &w);
  Parameter bias{"bias", ParamRole::kVector, random(ctx, {6}, "bias"), {}, {}};
  check_gradient(
      random(ctx, {4, 6}, "x"),
      [&](const Context& c, const Tensor& x) { return silu(c, add_bias(c, x, bias)); }, &bias);
  check_gradient(random(ctx, {3, 2, 6}, "x"), [](const Context& c, const Tensor& x) {
    const std::vector<Tensor> parts = split_columns(c, x, {4, 2});
    return silu(c, l2_norm(c, parts[0]));
  });
  check_gradient(random(ctx, {3, 4}, "x"), [](const Context& c, const Tensor& x) {
    return add(c, mul(c, x, sigmoid(c, x)), scale(c, x, 0.5f));
  });
  check_gradient(random(ctx, {3, 19}, "x"),
                 [](const Context& c, const Tensor& x) { return softcap(c, x, 1.5f); });
}

TEST_CASE("the loss's gradients agree with central differences, softcap and z-loss included") {
  Context ctx;
  Parameter head{"head", ParamRole::kEmbedding, random(ctx, {11, 5}, "head"), {}, {}};
  const std::vector<int32_t> targets = {1, 5, kIgnoreTarget, 10, 0, 3};
  for (const double cap : {0.0, 4.0}) {
    check_gradient(
        random(ctx, {6, 5}, "h"),
        [&](const Context& c, const Tensor& h) {
          return lm_loss(c, h, head, targets, {cap, 1e-2, 0}).loss;
        },
        &head);
  }
}

TEST_CASE("embedding sums the gradients of repeated tokens and names a bad id") {
  Context ctx;
  Parameter table{
      "embed", ParamRole::kEmbedding, random(ctx, {4, 3}, "table"), Tensor::zeros(ctx, {4, 3}), {}};
  Tape tape;
  Context train = ctx;
  train.tape = &tape;
  const std::vector<int32_t> ids = {2, 0, 2};
  Tensor y = embedding(train, ids, table);
  tape.backward(ctx, y);
  CHECK(table.grad.data()[2 * 3] == 2.0f);
  CHECK(table.grad.data()[0] == 1.0f);
  CHECK(table.grad.data()[3] == 0.0f);
  CHECK_THROWS_WITH_AS(embedding(ctx, std::vector<int32_t>{4}, table),
                       "token 4 at position 0 is outside the vocabulary of 4", Error);
}

}  // namespace braid
