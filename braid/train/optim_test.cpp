#include "braid/train/optim.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/rng.h"
#include "braid/kernels/optim/adamw.h"

namespace braid {
namespace {

Tensor random(const Context& ctx, Shape shape, uint64_t seed, double size) {
  Tensor t = Tensor::empty(ctx, shape);
  // A few distinct values are enough here, and a million draws are not free.
  const Rng rng(seed, "optim_test");
  float values[251];
  for (uint64_t i = 0; i < 251; ++i) values[i] = static_cast<float>(size * rng.normal(i));
  for (int64_t i = 0; i < t.count(); ++i) t.data()[i] = values[(i + i * i / 7) % 251];
  return t;
}

// Every role, a fused matrix, stacked experts, and one matrix large enough to be shared by all
// threads.
ParameterSet make_parameters(const Context& ctx) {
  ParameterSet set;
  set.add("embedding", ParamRole::kEmbedding, random(ctx, {50, 24}, 1, 0.1));
  set.add("wide", ParamRole::kMatrix, random(ctx, {24, 70}, 2, 0.1));
  set.add("tall", ParamRole::kMatrix, random(ctx, {133, 24}, 3, 0.1));
  set.add("fused", ParamRole::kMatrix, random(ctx, {72, 24}, 4, 0.1)).row_splits = {24, 32, 16};
  set.add("experts", ParamRole::kMatrix, random(ctx, {3, 20, 24}, 5, 0.1));
  set.add("large", ParamRole::kMatrix, random(ctx, {70, 15000}, 6, 0.1));
  set.add("gain", ParamRole::kVector, random(ctx, {24}, 7, 0.1));
  set.add("bias_buffer", ParamRole::kBuffer, random(ctx, {3}, 8, 0.1));
  set.allocate_grads(ctx);
  return set;
}

void set_grads(const Context& ctx, ParameterSet& set, int step, double size = 0.01) {
  uint64_t seed = 1000 * static_cast<uint64_t>(step + 1);
  for (Parameter& p : set) {
    ++seed;
    if (!p.grad.defined()) continue;
    const Tensor g = random(ctx, p.grad.shape(), seed, size);
    std::memcpy(p.grad.data(), g.data(), g.bytes());
  }
}

bool equal_bits(const ParameterSet& a, const ParameterSet& b) {
  auto q = b.begin();
  for (const Parameter& p : a) {
    if (std::memcmp(p.value.data(), q->value.data(), p.value.bytes()) != 0) return false;
    ++q;
  }
  return true;
}

TEST_CASE("AdamW follows its definition in double precision") {
  const Context ctx;
  ParameterSet set;
  Parameter& w = set.add("w", ParamRole::kMatrix, random(ctx, {7, 5}, 1, 1));
  Parameter& g = set.add("gain", ParamRole::kVector, random(ctx, {35}, 1, 1));
  set.allocate_grads(ctx);
  OptimConfig config;
  config.use_muon = false;
  config.lr = 0.02;
  config.weight_decay = 0.3;
  config.clip_norm = 0.5;
  std::vector<double> ref_w(35), ref_g(35), m(70, 0.0), v(70, 0.0);
  for (size_t i = 0; i < 35; ++i) ref_w[i] = w.value.data()[i], ref_g[i] = g.value.data()[i];
  Optimizer optimizer(ctx, set, config);
  for (int t = 1; t <= 5; ++t) {
    set_grads(ctx, set, t, t == 3 ? 0.01 : 1.0);
    double square = 0;
    for (const Parameter* p : {&w, &g}) {
      for (int64_t i = 0; i < 35; ++i)
        square += std::pow(static_cast<double>(p->grad.data()[i]), 2);
    }
    const double norm = std::sqrt(square), scale = norm > 0.5 ? 0.5 / norm : 1.0, lr = 0.02 * 0.5;
    const OptimStep step = optimizer.step(ctx, 0.5);
    CHECK(step.grad_norm == doctest::Approx(norm).epsilon(1e-12));
    for (size_t i = 0; i < 70; ++i) {
      double& x = i < 35 ? ref_w[i] : ref_g[i - 35];
      const double gi = scale * (i < 35 ? w.grad.data()[i] : g.grad.data()[i - 35]);
      m[i] = 0.9 * m[i] + 0.1 * gi;
      v[i] = 0.95 * v[i] + 0.05 * gi * gi;
      if (i < 35) x *= 1 - lr * 0.3;  // matrices only
      x -=
          lr * (m[i] / (1 - std::pow(0.9, t))) / (std::sqrt(v[i] / (1 - std::pow(0.95, t))) + 1e-8);
    }
  }
  for (size_t i = 0; i < 35; ++i) {
    // Five f32 updates of size lr on values of size 1: a few units in the last place each.
    CHECK(std::fabs(w.value.data()[i] - ref_w[i]) <= 2e-6);
    CHECK(std::fabs(g.value.data()[i] - ref_g[i]) <= 2e-6);
  }
}

// Muon's direction for one gradient and no momentum, by the definition, in f64.
std::vector<double> direction_f64(int64_t rows, int64_t cols, const float* grad, float beta) {
  const bool turned = rows > cols;
  const size_t r = static_cast<size_t>(std::min(rows, cols)),
               c = static_cast<size_t>(std::max(rows, cols));
  std::vector<double> x(r * c), y(r * c), a(r * r), q(r * r);
  double norm = 0;
  for (size_t i = 0; i < r; ++i) {
    for (size_t j = 0; j < c; ++j) {
      // B = (1-beta) G, U = (1-beta) G + beta B
      const double u =
          (1 - beta * beta) * static_cast<double>(turned ? grad[j * r + i] : grad[i * c + j]);
      x[i * c + j] = u;
      norm += u * u;
    }
  }
  for (double& v : x) v /= std::sqrt(norm) + 1e-7;
  for (int k = 0; k < 5; ++k) {
    for (size_t i = 0; i < r * r; ++i) {
      a[i] = 0;
      for (size_t l = 0; l < c; ++l) a[i] += x[i / r * c + l] * x[i % r * c + l];
    }
    for (size_t i = 0; i < r * r; ++i) {
      q[i] = -4.7750 * a[i] + (i / r == i % r ? 3.4445 : 0.0);
      for (size_t l = 0; l < r; ++l) q[i] += 2.0315 * a[i / r * r + l] * a[l * r + i % r];
    }
    for (size_t i = 0; i < r * c; ++i) {
      y[i] = 0;
      for (size_t l = 0; l < r; ++l) y[i] += q[i / c * r + l] * x[l * c + i % c];
    }
    std::swap(x, y);
  }
  if (!turned) return x;
  for (size_t i = 0; i < r * c; ++i) y[i % c * r + i / c] = x[i];
  return y;
}

TEST_CASE(
    "Muon's direction is the quintic iteration, for well and badly conditioned gradients of any "
    "shape") {
  const Context ctx;
  const MuonSettings settings;
  for (const auto& [rows, cols] :
       {std::pair<int64_t, int64_t>{40, 40}, {70, 72}, {33, 150}, {150, 70}, {8, 300}}) {
    for (const int rank : {1, 3, 1000}) {
      CAPTURE(rows);
      CAPTURE(cols);
      CAPTURE(rank);
      const Rng rng(5, "direction");
      Tensor grad = Tensor::zeros(ctx, {rows, cols});
      for (int64_t i = 0; i < rows * cols; ++i) {
        double v = rank == 1000 ? rng.normal(static_cast<uint64_t>(i)) : 0;
        // Terms a thousand times smaller one after the other: singular values down to 1e-6 of the
        // largest.
        for (int k = 0; k < rank && rank != 1000; ++k) {
          v += std::pow(1e-3, k) * rng.normal(static_cast<uint64_t>(i / cols + 1000 * k)) *
               rng.normal(static_cast<uint64_t>(i % cols + 500 + 1000 * k));
        }
        grad.data()[i] = static_cast<float>(v);
      }
      Tensor momentum = Tensor::zeros(ctx, {rows, cols});
      const Tensor scratch = Tensor::empty(ctx, {muon_scratch_floats(rows, cols)});
      const MuonMatrix m{rows, cols, nullptr, grad.data(), momentum.data(), nullptr};
      const float* o = muon_direction(ctx, m, settings, 1.0f, scratch.data());
      const std::vector<double> reference = direction_f64(rows, cols, grad.data(), 0.95f);
      double difference = 0, most = 0;
      for (size_t i = 0; i < reference.size(); ++i) {
        REQUIRE(std::isfinite(o[i]));
        difference = std::max(difference, std::fabs(o[i] - reference[i]));
        most = std::max(most, std::fabs(reference[i]));
      }
      // Rounding of the input (6e-8) in directions where it is nearly 0 is amplified as those are:
      // by up to 3.4445^5 = 485, in 16 terms. With none of these the golden folder's bound for an
      // update.
      CHECK(difference <= (rank == 1000 ? 1e-4 : 16 * 485 * 6e-8) * most);
    }
  }
}

TEST_CASE("Muon updates every logical matrix on its own") {
  const Context ctx;
  ParameterSet fused, single;
  const Tensor value = random(ctx, {40, 24}, 1, 0.1), grad = random(ctx, {40, 24}, 2, 0.1);
  Parameter& f =
      fused.add("f", ParamRole::kMatrix, Tensor::from(ctx, {40, 24}, {value.data(), 960}));
  f.row_splits = {24, 16};
  Parameter& a =
      single.add("a", ParamRole::kMatrix, Tensor::from(ctx, {24, 24}, {value.data(), 576}));
  Parameter& b =
      single.add("b", ParamRole::kMatrix, Tensor::from(ctx, {16, 24}, {value.data() + 576, 384}));
  for (ParameterSet* set : {&fused, &single}) set->allocate_grads(ctx);
  std::memcpy(f.grad.data(), grad.data(), grad.bytes());
  std::memcpy(a.grad.data(), grad.data(), a.grad.bytes());
  std::memcpy(b.grad.data(), grad.data() + 576, b.grad.bytes());
  OptimConfig config;
  config.clip_norm = 0;
  for (const MuonVariant variant : {MuonVariant::kMoonlight, MuonVariant::kNanochat}) {
    config.muon.variant = variant;
    Optimizer(ctx, fused, config).step(ctx, 1);
    Optimizer(ctx, single, config).step(ctx, 1);
    CHECK(std::memcmp(f.value.data(), a.value.data(), a.value.bytes()) == 0);
    CHECK(std::memcmp(f.value.data() + 576, b.value.data(), b.value.bytes()) == 0);
  }
}

TEST_CASE("threads do not change a bit, and neither does saving in between") {
  for (const MuonVariant variant : {MuonVariant::kMoonlight, MuonVariant::kNanochat}) {
    Context one, two;
    one.threads = 1;
    two.threads = 2;
    OptimConfig config;
    config.muon.variant = variant;
    ParameterSet a = make_parameters(one), b = make_parameters(two);
    Optimizer first(one, a, config);
    auto second = std::make_unique<Optimizer>(two, b, config);
    for (int t = 0; t < 3; ++t) {
      set_grads(one, a, t);
      set_grads(two, b, t);
      const OptimStep x = first.step(one, 1), y = second->step(two, 1);
      CHECK(x.applied);
      CHECK(x.grad_norm == y.grad_norm);
      CHECK(equal_bits(a, b));
      SafetensorsWriter writer;
      second->save(writer);
      const std::string bytes = writer.bytes();
      second = std::make_unique<Optimizer>(two, b, config);
      second->load(SafetensorsFile::parse(nullptr, std::as_bytes(std::span(bytes)), "memory"));
      CHECK(second->steps() == t + 1);
    }
  }
}

TEST_CASE("a gradient that is not finite, or an outlier, changes nothing") {
  const Context ctx;
  ParameterSet set = make_parameters(ctx), before = make_parameters(ctx);
  Optimizer optimizer(ctx, set, {});
  set_grads(ctx, set, 0);
  set.find("tall")->grad.data()[17] = NAN;
  const OptimStep step = optimizer.step(ctx, 1);
  CHECK_FALSE(step.applied);
  CHECK(std::isnan(step.grad_norm));
  set_grads(ctx, set, 0);
  CHECK_FALSE(optimizer.step(ctx, 1, 1e-3).applied);
  CHECK(optimizer.steps() == 0);
  CHECK(equal_bits(set, before));
  CHECK(optimizer.step(ctx, 1).applied);
  CHECK_FALSE(equal_bits(set, before));
}

TEST_CASE("state of another model is refused with the list") {
  const Context ctx;
  ParameterSet a = make_parameters(ctx), b;
  b.add("wide", ParamRole::kMatrix, random(ctx, {24, 71}, 2, 0.1));
  b.add("other", ParamRole::kVector, random(ctx, {4}, 2, 0.1));
  b.allocate_grads(ctx);
  const Optimizer optimizer(ctx, a, {});
  SafetensorsWriter writer;
  optimizer.save(writer);
  const std::string bytes = writer.bytes();
  const SafetensorsFile file =
      SafetensorsFile::parse(nullptr, std::as_bytes(std::span(bytes)), "run/optimizer.safetensors");
  Optimizer other(ctx, b, {});
  try {
    other.load(file);
    FAIL("loaded");
  } catch (const Error& e) {
    const std::string text = e.what();
    CHECK(text.find("momentum.wide is f32 [24, 70], not f32 [24, 71]") != std::string::npos);
    CHECK(text.find("adam_m.other is missing") != std::string::npos);
    CHECK(text.find("adam_v.gain belongs to no parameter") != std::string::npos);
  }
  OptimConfig bad;
  bad.beta2 = 1.5;
  CHECK_THROWS_WITH_AS(Optimizer(ctx, a, bad), doctest::Contains("beta2 is 1.5"), Error);
}

TEST_CASE("a dry run allocates what a real one does") {
  size_t peak[2];
  for (const Arena::Mode mode : {Arena::Mode::kReal, Arena::Mode::kDry}) {
    Context ctx;
    ctx.arena = Arena::create(mode);
    ctx.threads = 2;
    ParameterSet set;
    set.add("a", ParamRole::kMatrix, Tensor::zeros(ctx, {64, 96}));
    set.add("b", ParamRole::kMatrix, Tensor::zeros(ctx, {64, 96}));
    set.add("large", ParamRole::kMatrix, Tensor::zeros(ctx, {64, 17000}));
    set.add("c", ParamRole::kVector, Tensor::zeros(ctx, {96}));
    set.allocate_grads(ctx);
    Optimizer optimizer(ctx, set, {});
    optimizer.step(ctx, 1);
    peak[static_cast<int>(mode)] = ctx.arena->stats().peak;
  }
  CHECK(peak[0] == peak[1]);
}

}  // namespace
}  // namespace braid
