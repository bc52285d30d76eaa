#include "braid/ops/layer_norm.h"

#include <doctest/doctest.h>

#include "braid/ops/norm_ref.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::Complex;
using testing::worst_error;

// Far from zero mean, where a one-pass variance would lose everything.
Tensor shifted(const Context& ctx, Shape shape, float by) {
  Tensor x = testing::random_tensor(ctx, shape, "x");
  for (int64_t i = 0; i < x.count(); ++i) x.data()[i] += by;
  return x;
}

}  // namespace

TEST_CASE("layer_norm equals its definition, values and gradients, for any number of threads") {
  for (const int64_t n : {1, 5, 16, 67}) {
    for (const float by : {0.0f, 30.0f}) {
      CAPTURE(n);
      CAPTURE(by);
      const int64_t tokens = 70;
      std::vector<double> first;
      for (const int threads : {1, 2}) {
        Context ctx;
        ctx.threads = threads;
        Parameter w = testing::random_parameter(ctx, {n}, "w");
        Parameter b = testing::random_parameter(ctx, {n}, "b");
        Tensor x = shifted(ctx, {tokens, n}, by);
        const Tensor up = testing::random_tensor(ctx, {tokens, n}, "up");
        Tape tape;
        Context train = ctx;
        train.tape = &tape;
        tape.watch(x);
        const double eps = 1e-3;
        const Tensor y = layer_norm(train, x, w, b, eps);
        tape.backward(ctx, y, up);
        std::vector<double> all = testing::values(x);
        const auto append = [&](const std::vector<double>& v) {
          all.insert(all.end(), v.begin(), v.end());
        };
        append(testing::values(w.value));
        append(testing::values(b.value));
        const size_t count = static_cast<size_t>(tokens * n), width = static_cast<size_t>(n);
        const auto run = [&](std::span<const Complex> in) {
          return layer_norm_ref<Complex>(in.first(count), in.subspan(count, width), in.last(width),
                                         eps);
        };
        std::vector<double> want;
        for (const Complex& v : run(std::vector<Complex>(all.begin(), all.end()))) {
          want.push_back(v.real());
        }
        const double bound = by == 0 ? 1e-6 : 2e-5;  // of x: eps * by
        CHECK(worst_error(y, want) <= bound);
        std::vector<double> got = testing::values(y);
        for (const Tensor& t : {tape.grad(x), w.grad, b.grad}) {
          const auto v = testing::values(t);
          got.insert(got.end(), v.begin(), v.end());
        }
        if (first.empty()) first = got;
        CHECK(got == first);
        const auto gradient = testing::complex_step(all, [&](std::span<const Complex> in) {
          Complex sum = 0;
          const auto out = run(in);
          for (size_t i = 0; i < out.size(); ++i) sum += out[i] * double(up.data()[i]);
          return sum;
        });
        if (n > 1) CHECK(worst_error(tape.grad(x), std::span(gradient).first(count)) <= 10 * bound);
        if (n > 1) {
          CHECK(worst_error(w.grad, std::span(gradient).subspan(count, width)) <= 10 * bound);
        }
        // A single sum may cancel.
        CHECK(worst_error(b.grad, std::span(gradient).last(width)) <= (n > 1 ? 1e-6 : 2e-5));
      }
    }
  }
}

}  // namespace braid
