#include <doctest/doctest.h>

#include <cstring>

#include "braid/base/format.h"
#include "braid/layers/residual.h"
#include "braid/layers/residuals/attnres/attnres_ref.h"
#include "braid/ops/depth.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"
#include "braid/ops/norm.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::Complex;
using testing::worst_error;

struct Toy {
  Context ctx;
  int64_t width, sublayers;
  std::vector<Parameter> gains, weights;

  Toy(int64_t width, int64_t sublayers) : width(width), sublayers(sublayers) {
    for (int64_t l = 0; l < sublayers; ++l) {
      gains.push_back(testing::random_parameter(ctx, {width}, format("gain{}", l).c_str()));
      weights.push_back(
          testing::random_parameter(ctx, {width, width}, format("w{}", l).c_str(), 0.2));
    }
  }
  Tensor sublayer(const Context& c, int64_t l, const Tensor& h) {
    const size_t i = static_cast<size_t>(l);
    return linear(c, silu(c, rms_norm(c, h, gains[i], 1e-12)), weights[i]);
  }
  Tensor through(const Context& c, Residual& residual, const Tensor& x) {
    const auto run = residual.begin(c, x);
    for (int64_t l = 0; l < sublayers; ++l) run->output(c, l, sublayer(c, l, run->input(c, l)));
    return run->finish(c);
  }
};

std::unique_ptr<Residual> make(const Context& ctx, ParameterSet& set, const char* name,
                               int64_t width, int64_t sublayers, int64_t block, double eps = 1e-6) {
  Options options;
  if (block != 1) options.set("block_sublayers", std::to_string(block));
  LayerEnv env;
  env.width = width;
  env.norm_eps = eps;
  ParamBuilder params(ctx, set, 1);
  return find_residual(name)->make(options, env, sublayers, params);
}

}  // namespace

TEST_CASE("depth softmax equals its definition, values and gradients, odd widths included") {
  Context ctx;
  for (const int64_t width : {5, 48, 83}) {
    for (const int64_t count : {1, 2, 7}) {
      const int64_t tokens = 3;
      Parameter query = testing::random_parameter(ctx, {width}, "query");
      Parameter norm = testing::random_parameter(ctx, {width}, "norm", 0.3);
      Tape tape;
      Context train = ctx;
      train.tape = &tape;
      std::vector<Tensor> sources;
      std::vector<double> all;
      for (int64_t s = 0; s < count; ++s) {
        const std::string use = format("v{}", s);
        sources.push_back(testing::random_tensor(ctx, {tokens, width}, use.c_str(), 1.0 + s));
        tape.watch(sources.back());
        const auto v = testing::values(sources.back());
        all.insert(all.end(), v.begin(), v.end());
      }
      for (const Parameter* p : {&query, &norm}) {
        const auto v = testing::values(p->value);
        all.insert(all.end(), v.begin(), v.end());
      }
      const auto run = [&](std::span<const Complex> in) {
        std::vector<Complex> out;
        const Complex* q = in.data() + count * tokens * width;
        for (int64_t t = 0; t < tokens; ++t) {
          std::vector<std::vector<Complex>> v;
          for (int64_t s = 0; s < count; ++s) {
            const Complex* row = in.data() + (s * tokens + t) * width;
            v.emplace_back(row, row + width);
          }
          const auto h = depth_softmax_ref(v, q, q + width, 1e-6, 0.5);
          out.insert(out.end(), h.begin(), h.end());
        }
        return out;
      };
      const Tensor h = depth_softmax(train, sources, query, norm, {1e-6, 0.5});
      std::vector<double> want;
      for (const Complex& v : run(std::vector<Complex>(all.begin(), all.end()))) {
        want.push_back(v.real());
      }
      CHECK(worst_error(h, want) <= 2e-6);
      const Tensor up = testing::random_tensor(ctx, h.shape(), "up");
      tape.backward(ctx, h, up);
      const auto gradient = testing::complex_step(all, [&](std::span<const Complex> in) {
        Complex sum = 0;
        const auto out = run(in);
        for (size_t i = 0; i < out.size(); ++i) sum += out[i] * static_cast<double>(up.data()[i]);
        return sum;
      });
      size_t at = 0;
      const auto check = [&](const Tensor& got, double tolerance) {
        const auto ref = std::span(gradient).subspan(at, static_cast<size_t>(got.count()));
        at += ref.size();
        CHECK(worst_error(got, ref) <= tolerance);
      };
      for (const Tensor& v : sources) check(tape.grad(v), 2e-5);
      if (count == 1) {  // exactly zero, which no relative bound can say
        for (int64_t i = 0; i < width; ++i) CHECK(query.grad.data()[i] == 0.0f);
      } else {
        check(query.grad, 2e-4);
        check(norm.grad, 2e-4);
      }
    }
  }
}

TEST_CASE("attnres equals its definition") {
  // Blocks of 2 have the sources, and 80 tokens the length, from which reads are done in two
  // phases.
  Toy toy(12, 18);
  for (const int64_t block : {1, 2, 4, 18, 30}) {
    ParameterSet set;
    const auto residual = make(toy.ctx, set, "attnres", toy.width, toy.sublayers, block);
    CHECK(residual->options().str() == (block == 1 ? "" : format("block_sublayers={}", block)));
    std::vector<double> query, norm;
    for (Parameter& p : set) {
      const bool is_query = p.name.ends_with("query");
      p.value = testing::random_tensor(toy.ctx, p.value.shape(), p.name.c_str());
      const auto v = testing::values(p.value);
      (is_query ? query : norm).insert((is_query ? query : norm).end(), v.begin(), v.end());
    }
    const Tensor x = testing::random_tensor(toy.ctx, {80, toy.width}, "x");
    const Tensor got = toy.through(toy.ctx, *residual, x);
    const auto f = [&](int64_t l, const std::vector<double>& h) {
      std::vector<double> n(h.size()), y(h.size(), 0.0);
      double squares = 0;
      for (const double v : h) squares += v * v;
      const double r = 1 / std::sqrt(squares / static_cast<double>(h.size()) + 1e-12);
      const Parameter &gain = toy.gains[l], &w = toy.weights[l];
      for (size_t d = 0; d < h.size(); ++d) {
        const double z = h[d] * r * gain.value.data()[d];
        n[d] = z / (1 + std::exp(-z));
      }
      for (size_t o = 0; o < h.size(); ++o) {
        for (size_t d = 0; d < h.size(); ++d) y[o] += w.value.data()[o * h.size() + d] * n[d];
      }
      return y;
    };
    std::vector<double> want;
    for (int64_t t = 0; t < x.size(0); ++t) {
      const auto h = attnres_ref(testing::values(x.select(0, t)), toy.sublayers, block,
                                 query.data(), norm.data(), 1e-6, 1.0, f);
      want.insert(want.end(), h.begin(), h.end());
    }
    // Rounding grows through 18 sub-layers; the worst token reaches 1.1e-5, by single reads as
    // well.
    CHECK(worst_error(got, want) <= 3e-5);
  }
}

TEST_CASE("at zero query attnres is prenorm up to the norms' epsilon") {
  Toy toy(16, 6);
  const Tensor x = testing::random_tensor(toy.ctx, {70, toy.width}, "x");
  ParameterSet none;
  const auto plain = make(toy.ctx, none, "prenorm", toy.width, toy.sublayers, 1);
  CHECK(none.size() == 0);
  const Tensor stream = toy.through(toy.ctx, *plain, x);
  for (const int64_t block : {1, 2, 4, 6}) {
    ParameterSet set;
    const auto residual = make(toy.ctx, set, "attnres", toy.width, toy.sublayers, block);
    const Tensor mean = toy.through(toy.ctx, *residual, x);
    // The read-out is the mean of the sources, their sum is the residual stream.
    const double sources = 1.0 + (toy.sublayers + block - 1) / block;
    std::vector<double> want = testing::values(stream);
    for (double& v : want) v /= sources;
    CHECK(worst_error(mean, want) <= 1e-5);
  }
}

TEST_CASE("attnres gives the same bits for any number of threads, gradients included") {
  Toy toy(24, 5);
  std::vector<Tensor> first;
  for (const int threads : {1, 2, 3}) {
    Context ctx = toy.ctx;
    ctx.threads = threads;
    ParameterSet set;
    const auto residual = make(ctx, set, "attnres", toy.width, toy.sublayers, 2);
    set.allocate_grads(ctx);
    for (Parameter& p : set) p.value = testing::random_tensor(ctx, p.value.shape(), p.name.c_str());
    Tape tape;
    Context train = ctx;
    train.tape = &tape;
    Tensor x = testing::random_tensor(ctx, {500, toy.width}, "x");
    tape.watch(x);
    const Tensor y = toy.through(train, *residual, x);
    tape.backward(ctx, y);
    std::vector<Tensor> all = {y, tape.grad(x)};
    for (const Parameter& p : set) all.push_back(p.grad);
    if (first.empty()) first = all;
    for (size_t i = 0; i < all.size(); ++i) {
      CHECK(std::memcmp(all[i].data(), first[i].data(), all[i].bytes()) == 0);
    }
  }
}

TEST_CASE("attnres names a bad block size") {
  Context ctx;
  ParameterSet set;
  CHECK_THROWS_WITH_AS(make(ctx, set, "attnres", 8, 4, 0),
                       "attnres: block_sublayers=0 must be at least 1 (full)", Error);
}

}  // namespace braid
