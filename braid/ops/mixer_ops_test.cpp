// The small ops of the linear mixers against their definitions in double precision, gradients by
// the complex step.

#include <doctest/doctest.h>

#include <cstring>

#include "braid/ops/add_scaled.h"
#include "braid/ops/conv.h"
#include "braid/ops/decay_gate.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/gated_norm.h"
#include "braid/ops/l2_norm.h"
#include "braid/ops/view.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::Complex;
using testing::values;
using testing::worst_error;

// f32 against double; every op here is a handful of roundings, the reductions are at most 200 long.
constexpr double kForward = 2e-6, kGradient = 5e-6;

// inputs: activations first (watched), then parameters. `reference` maps all of them to the output.
struct Case {
  std::vector<Tensor> activations;
  std::vector<Parameter*> parameters;
  std::function<Tensor(const Context&, std::vector<Tensor>&)> op;
  std::function<std::vector<Complex>(const std::vector<std::vector<Complex>>&)> reference;
};

void check(Case c) {
  Context ctx, train;
  Tape tape;
  train.tape = &tape;
  train.arena = ctx.arena;
  std::vector<std::vector<Complex>> inputs;
  for (Tensor& x : c.activations) {
    tape.watch(x);
    const auto v = values(x);
    inputs.emplace_back(v.begin(), v.end());
  }
  for (Parameter* p : c.parameters) {
    std::memset(p->grad.data(), 0, p->grad.bytes());
    const auto v = values(p->value);
    inputs.emplace_back(v.begin(), v.end());
  }
  Tensor y = c.op(train, c.activations);
  const auto want = c.reference(inputs);
  std::vector<double> real;
  for (const Complex& v : want) real.push_back(v.real());
  CHECK(worst_error(y, real) <= kForward);
  const Tensor up = testing::random_tensor(ctx, y.shape(), "up");
  tape.backward(ctx, y, up);
  for (size_t i = 0; i < inputs.size(); ++i) {
    std::vector<double> at;
    for (const Complex& v : inputs[i]) at.push_back(v.real());
    const auto gradient = testing::complex_step(at, [&](std::span<const Complex> x) {
      auto moved = inputs;
      moved[i].assign(x.begin(), x.end());
      const auto out = c.reference(moved);
      Complex sum = 0;
      for (size_t j = 0; j < out.size(); ++j) sum += out[j] * static_cast<double>(up.data()[j]);
      return sum;
    });
    const bool activation = i < c.activations.size();
    INFO("input ", i);
    CHECK(worst_error(activation ? tape.grad(c.activations[i])
                                 : c.parameters[i - c.activations.size()]->grad,
                      gradient) <= kGradient);
  }
}

Complex sigmoid(Complex x) { return 1.0 / (1.0 + std::exp(-x)); }
Complex softplus(Complex x) { return std::log(1.0 + std::exp(x)); }

}  // namespace

TEST_CASE("a sum in the place of its first operand is the sum, and only without a tape") {
  Context ctx;
  const Tensor y = testing::random_tensor(ctx, {5, 3, 7}, "y");
  Tensor x = testing::random_tensor(ctx, {5, 3, 7}, "x");
  Parameter by{"by", ParamRole::kVector, testing::random_tensor(ctx, {3}, "by"), {}, {}};
  const auto copy = [&] { return Tensor::from(ctx, y.shape(), {y.data(), size_t{105}}); };
  const Tensor want = add_scaled(ctx, y, x, by);
  Tensor given = copy();
  const float* place = given.data();
  const Tensor in_place = add_scaled(ctx, std::move(given), x, by);
  CHECK(in_place.data() == place);
  CHECK(std::memcmp(in_place.data(), want.data(), want.bytes()) == 0);
  Tape tape;
  Context train = ctx;
  train.tape = &tape;
  tape.watch(x);
  given = copy();
  place = given.data();
  const Tensor recorded = add_scaled(train, std::move(given), x, by);
  CHECK(recorded.data() != place);
  CHECK(std::memcmp(recorded.data(), want.data(), want.bytes()) == 0);
}

TEST_CASE("short convolution: ragged sequences, all tap counts, odd channel counts") {
  Context ctx;
  for (const int64_t taps : {1, 2, 3, 4, 7}) {
    for (const bool silu : {false, true}) {
      const bool biased = taps != 2;
      const int64_t tokens = 12, channels = 19;
      const std::vector<int64_t> starts = {0, 1, 1, 4, 12};
      Parameter w = testing::random_parameter(ctx, {channels, 1, taps}, "w", 0.5);
      Parameter b = testing::random_parameter(ctx, {channels}, "b");
      check({{testing::random_tensor(ctx, {tokens, channels}, "x")},
             biased ? std::vector<Parameter*>{&w, &b} : std::vector<Parameter*>{&w},
             [&](const Context& c, std::vector<Tensor>& in) {
               return short_conv(c, in[0], w, starts, silu, {}, biased ? &b : nullptr);
             },
             [&](const std::vector<std::vector<Complex>>& in) {
               std::vector<Complex> y(tokens * channels);
               for (size_t s = 0; s + 1 < starts.size(); ++s) {
                 for (int64_t t = starts[s]; t < starts[s + 1]; ++t) {
                   for (int64_t c = 0; c < channels; ++c) {
                     Complex z = biased ? in[2][c] : 0;
                     for (int64_t j = 0; j < taps; ++j) {
                       const int64_t u = t - (taps - 1) + j;
                       if (u >= starts[s]) z += in[1][c * taps + j] * in[0][u * channels + c];
                     }
                     y[t * channels + c] = silu ? z * sigmoid(z) : z;
                   }
                 }
               }
               return y;
             }});
    }
  }
}

TEST_CASE("short convolution: long sequences cross the pieces of the partition") {
  Context ctx;
  const int64_t tokens = 1100, channels = 300, taps = 4;
  Parameter w = testing::random_parameter(ctx, {channels, 1, taps}, "w", 0.5);
  Tensor x = testing::random_tensor(ctx, {tokens, channels}, "x");
  const Tensor up = testing::random_tensor(ctx, {tokens, channels}, "up");
  const std::vector<int64_t> starts = {0, 1050, 1100};
  const Tensor dx = short_conv_backward(ctx, x, w, starts, false, up);
  std::vector<double> dw(channels * taps), want(tokens * channels);
  for (size_t s = 0; s + 1 < starts.size(); ++s) {
    for (int64_t t = starts[s]; t < starts[s + 1]; ++t) {
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t j = 0; j < taps; ++j) {
          const int64_t u = t - (taps - 1) + j;
          if (u < starts[s]) continue;
          const double g = up.data()[t * channels + c];
          dw[c * taps + j] += g * x.data()[u * channels + c];
          want[u * channels + c] += g * w.value.data()[c * taps + j];
        }
      }
    }
  }
  CHECK(worst_error(dx, want) <= kGradient);
  CHECK(worst_error(w.grad, dw) <= kGradient);
}

TEST_CASE("short convolution: cut anywhere with a window equals the whole, bit for bit") {
  Context ctx;
  const int64_t tokens = 9, channels = 21;
  for (const int64_t taps : {1, 3, 4, 5}) {
    Parameter w = testing::random_parameter(ctx, {channels, 1, taps}, "w");
    // Columns of a wider tensor: rows are strided, as after split_columns.
    const Tensor wide = testing::random_tensor(ctx, {tokens, channels + 5}, "x");
    const Tensor x = wide.narrow(1, 3, channels);
    const Tensor whole = short_conv(ctx, x, w, std::vector<int64_t>{0, tokens}, true);
    for (int64_t step = 1; step <= tokens; ++step) {
      const Tensor window = Tensor::zeros(ctx, {taps - 1, channels});
      for (int64_t t = 0; t < tokens; t += step) {
        const int64_t n = std::min(step, tokens - t);
        const Tensor part = short_conv(ctx, x.narrow(0, t, n), w, std::vector<int64_t>{0, n}, true,
                                       std::span(&window, 1));
        CHECK(std::memcmp(part.data(), whole.data() + t * channels, part.bytes()) == 0);
      }
      for (int64_t j = 0; j < taps - 1; ++j) {
        CHECK(window.data()[j * channels] == x.data()[(tokens - taps + 1 + j) * x.stride(0)]);
      }
    }
  }
}

TEST_CASE("L2 norm of strided heads") {
  Context ctx;
  const int64_t tokens = 3, heads = 2, size = 21;
  check({{testing::random_tensor(ctx, {tokens, 4 + heads * size}, "x", 1e-3)},
         {},
         [&](const Context& c, std::vector<Tensor>& in) {
           std::vector<Tensor> parts = split_columns(c, in[0], {4, heads * size});
           return l2_norm(c, reshape(c, parts[1], {tokens, heads, size}));
         },
         [&](const std::vector<std::vector<Complex>>& in) {
           std::vector<Complex> y;
           for (int64_t t = 0; t < tokens; ++t) {
             for (int64_t h = 0; h < heads; ++h) {
               const Complex* x = in[0].data() + t * (4 + heads * size) + 4 + h * size;
               Complex sum = 0;
               for (int64_t i = 0; i < size; ++i) sum += x[i] * x[i];
               for (int64_t i = 0; i < size; ++i) y.push_back(x[i] / std::sqrt(sum + 1e-6));
             }
           }
           return y;
         }});
}

TEST_CASE("gated norm") {
  Context ctx;
  const int64_t rows = 3, heads = 2, size = 19;
  Parameter w = testing::random_parameter(ctx, {size}, "w");
  for (const GateAct act : {GateAct::kSilu, GateAct::kSigmoid}) {
    check({{testing::random_tensor(ctx, {rows, heads, size}, "x", 0.1),
            testing::random_tensor(ctx, {rows, heads, size}, "z", 3)},
           {&w},
           [&](const Context& c, std::vector<Tensor>& in) {
             return gated_norm(c, in[0], in[1], w, 1e-3, act);
           },
           [&](const std::vector<std::vector<Complex>>& in) {
             std::vector<Complex> y(in[0].size());
             for (size_t at = 0; at < y.size(); at += size) {
               Complex sum = 0;
               for (size_t i = 0; i < size; ++i) sum += in[0][at + i] * in[0][at + i];
               const Complex rho = 1.0 / std::sqrt(sum / static_cast<double>(size) + 1e-3);
               for (size_t i = 0; i < size; ++i) {
                 const Complex z = in[1][at + i];
                 y[at + i] = in[0][at + i] * rho * in[2][i] * sigmoid(z) *
                             (act == GateAct::kSilu ? z : Complex(1));
               }
             }
             return y;
           }});
  }
}

TEST_CASE("decay gates: per head and per channel, unbounded and bounded") {
  Context ctx;
  const int64_t tokens = 5, heads = 3;
  for (const int64_t width : {1, 7}) {
    for (const double bound : {0.0, -5.0}) {
      Parameter a_log = testing::random_parameter(ctx, {1, 1, heads, 1}, "A_log", 0.5);
      Parameter dt_bias = testing::random_parameter(ctx, {heads * width}, "dt_bias");
      check({{testing::random_tensor(ctx, {tokens, heads, width}, "a", 6)},
             {&a_log, &dt_bias},
             [&](const Context& c, std::vector<Tensor>& in) {
               return decay_gate(c, in[0], a_log, dt_bias, bound);
             },
             [&](const std::vector<std::vector<Complex>>& in) {
               std::vector<Complex> g(in[0].size());
               for (size_t i = 0; i < g.size(); ++i) {
                 const size_t c = i % static_cast<size_t>(heads * width);
                 const Complex rate = std::exp(in[1][c / static_cast<size_t>(width)]);
                 const Complex y = in[0][i] + in[2][c];
                 g[i] = bound < 0 ? bound * sigmoid(rate * y) : -rate * softplus(y);
               }
               return g;
             }});
    }
  }
}

TEST_CASE("log-sigmoid gate and write strength") {
  Context ctx;
  const int64_t tokens = 4, n = 18;
  Parameter bias = testing::random_parameter(ctx, {n}, "bias");
  check(
      {{testing::random_tensor(ctx, {tokens, n}, "x", 5)},
       {&bias},
       [&](const Context& c, std::vector<Tensor>& in) { return log_sigmoid_gate(c, in[0], &bias); },
       [&](const std::vector<std::vector<Complex>>& in) {
         std::vector<Complex> g(in[0].size());
         for (size_t i = 0; i < g.size(); ++i) g[i] = -softplus(-in[0][i] - in[1][i % n]) / 16.0;
         return g;
       }});
  check({{testing::random_tensor(ctx, {tokens, n}, "x", 5)},
         {},
         [&](const Context& c, std::vector<Tensor>& in) {
           return add(c, log_sigmoid_gate(c, in[0], nullptr, 0.5), beta_gate(c, in[0], 2));
         },
         [&](const std::vector<std::vector<Complex>>& in) {
           std::vector<Complex> g;
           for (const Complex& x : in[0]) g.push_back(-0.5 * softplus(-x) + 2.0 * sigmoid(x));
           return g;
         }});
}

TEST_CASE("gates stay finite and keep relative accuracy at the ends") {
  Context ctx;
  Parameter a_log = testing::random_parameter(ctx, {1}, "A_log", 0);
  Parameter dt_bias = testing::random_parameter(ctx, {1}, "dt_bias", 0);
  const float ends[] = {-80, -30, 30, 80};
  const Tensor a = Tensor::from(ctx, {4, 1}, ends);
  const Tensor g = decay_gate(ctx, a, a_log, dt_bias);
  for (int i = 0; i < 4; ++i) {
    const double want = -std::log1p(std::exp(static_cast<double>(ends[i])));
    CHECK(std::abs(g.data()[i] - want) <= 1e-6 * std::abs(want));
  }
}

TEST_CASE("the small mixer ops give the same bits for any number of threads") {
  std::vector<Tensor> first;
  for (const int threads : {1, 2, 3}) {
    Context ctx;
    ctx.threads = threads;
    Parameter w = testing::random_parameter(ctx, {96, 1, 4}, "w");
    Parameter gain = testing::random_parameter(ctx, {32}, "gain");
    Parameter a_log = testing::random_parameter(ctx, {3}, "a_log");
    Parameter dt = testing::random_parameter(ctx, {96}, "dt");
    Tape tape;
    Context train = ctx;
    train.tape = &tape;
    Tensor x = testing::random_tensor(ctx, {700, 96}, "x");
    tape.watch(x);
    Tensor y = short_conv(train, x, w, std::vector<int64_t>{0, 100, 700}, true);
    Tensor heads = reshape(train, y, {700, 3, 32});
    Tensor g = decay_gate(train, heads, a_log, dt);
    Tensor out = gated_norm(train, l2_norm(train, heads), g, gain, 1e-6, GateAct::kSilu);
    tape.backward(ctx, out);
    std::vector<Tensor> all = {out, tape.grad(x), w.grad, gain.grad, a_log.grad, dt.grad};
    if (first.empty()) first = all;
    for (size_t i = 0; i < all.size(); ++i) {
      CHECK(std::memcmp(all[i].data(), first[i].data(), all[i].bytes()) == 0);
    }
  }
}

}  // namespace braid
