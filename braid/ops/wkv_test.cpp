// RWKV-7's and RWKV-6's recurrences against their definitions in double, over decays from none to
// exp(-1e4): outputs, final states, and gradients along random directions.

#include "braid/ops/wkv.h"

#include <doctest/doctest.h>

#include <cmath>

#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::random_tensor;
using testing::values;
using testing::worst_error;
using Values = std::vector<double>;

constexpr int64_t kHeads = 2, kKey = 20, kValue = 24;
// ops/recurrence_test.cpp's; gradients beside the differences of the definition.
constexpr double kTolerance = 1e-5, kGradient = 2e-4;

// Operands in the order r g k v a b; RWKV-6 has no a and b.
struct Definition {
  bool pair;  // RWKV-7
  std::vector<int64_t> starts;
  Values initial;
  Values out, final_states;

  void run(const std::vector<Values>& in) {
    out.assign(static_cast<size_t>(starts.back() * kHeads * kValue), 0);
    final_states = initial;
    for (size_t s = 0; s + 1 < starts.size(); ++s) {
      for (int64_t h = 0; h < kHeads; ++h) {
        double* state = &final_states[(s * kHeads + static_cast<size_t>(h)) * kKey * kValue];
        for (int64_t t = starts[s]; t < starts[s + 1]; ++t) token(in, t * kHeads + h, state);
      }
    }
  }

  void token(const std::vector<Values>& in, int64_t row, double* state) {
    const auto key = [&](size_t i, int64_t c) {
      return in[i][static_cast<size_t>(row * kKey + c)];
    };
    for (int64_t v = 0; v < kValue; ++v) {
      double before = 0, after = 0, erased = 0;
      for (int64_t c = 0; c < kKey; ++c) {
        const double s = state[c * kValue + v];
        before += s * key(0, c);
        if (pair) erased += s * key(4, c);
      }
      const double value = in[3][static_cast<size_t>(row * kValue + v)];
      for (int64_t c = 0; c < kKey; ++c) {
        double& s = state[c * kValue + v];
        s = std::exp(key(1, c)) * s + key(2, c) * value + (pair ? key(5, c) * erased : 0);
        after += s * key(0, c);
      }
      out[static_cast<size_t>(row * kValue + v)] = pair ? after : before;
    }
  }
};

double dot(const Values& a, const Values& b) {
  REQUIRE(a.size() == b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

enum class Decays { kMild, kStrong, kMixed, kNone };

Tensor decays(const Context& ctx, Shape shape, Decays kind) {
  Tensor g = random_tensor(ctx, shape, "g");
  for (int64_t i = 0; i < g.count(); ++i) {
    const float mild = -0.6f / (1 + std::exp(-g.data()[i]));
    switch (kind) {
      case Decays::kMild:
        g.data()[i] = mild;
        break;
      case Decays::kStrong:
        g.data()[i] = 100 * mild;
        break;
      case Decays::kMixed:
        g.data()[i] = i % 5 == 0 ? -1e4f : i % 5 == 1 ? 0.0f : mild;
        break;
      case Decays::kNone:
        g.data()[i] = 0;
        break;
    }
  }
  return g;
}

struct Given {
  Context ctx;
  std::vector<int64_t> starts{0, 1, 70, 133};
  std::vector<Tensor> in;
  Tensor states;

  Given(bool pair, Decays kind) {
    const int64_t tokens = starts.back();
    const double key = 1 / std::sqrt(static_cast<double>(kKey));
    const Shape keys{tokens, kHeads, kKey};
    in = {random_tensor(ctx, keys, "r", key), decays(ctx, keys, kind),
          random_tensor(ctx, keys, "k", key), random_tensor(ctx, {tokens, kHeads, kValue}, "v")};
    if (pair) {
      in.push_back(random_tensor(ctx, keys, "a", 0.5 * key));
      in.push_back(random_tensor(ctx, keys, "b", 0.5 * key));
    }
    states = random_tensor(ctx, {std::ssize(starts) - 1, kHeads, kKey, kValue}, "s0", 0.3);
  }

  Tensor run(const Context& c, std::span<float* const> blocks) const {
    if (in.size() == 4) return pre_read(c, {in[0], in[1], in[2], in[3]}, starts, blocks);
    RecurrenceInputs all;
    all.q = in[0];
    all.g = in[1];
    all.k = in[2];
    all.v = in[3];
    all.p = in[4];
    all.b = in[5];
    const RecurrenceConfig config{.decay = RecurrenceConfig::Decay::kVector,
                                  .erase = RecurrenceConfig::Erase::kPair};
    return recurrence(c, config, all, starts, blocks);
  }
};

void check(bool pair, Decays kind) {
  CAPTURE(pair);
  CAPTURE(static_cast<int>(kind));
  Given g(pair, kind);
  Definition def{pair, g.starts, values(g.states), {}, {}};
  std::vector<Values> in;
  for (const Tensor& t : g.in) in.push_back(values(t));
  def.run(in);
  std::vector<float*> blocks;
  for (int64_t s = 0; s < g.states.size(0); ++s) blocks.push_back(g.states.select(0, s).data());
  CHECK(worst_error(values(g.run(g.ctx, blocks)), def.out) <= kTolerance);
  CHECK(worst_error(values(g.states), def.final_states) <= kTolerance);

  // Without initial states: what is recorded on the tape.
  std::fill(def.initial.begin(), def.initial.end(), 0.0);
  Tape tape;
  Context train = g.ctx;
  train.tape = &tape;
  for (Tensor& t : g.in) tape.watch(t);
  const Tensor y = g.run(train, {});
  const Tensor up = random_tensor(g.ctx, y.shape(), "up");
  tape.backward(g.ctx, y, up);
  for (size_t i = 0; i < in.size(); ++i) {
    CAPTURE(i);
    const Values way = values(random_tensor(g.ctx, g.in[i].shape(), "way"));
    constexpr double kStep = 1e-5;
    const auto loss = [&](double step) {
      std::vector<Values> moved = in;
      for (size_t j = 0; j < way.size(); ++j) moved[i][j] += step * way[j];
      def.run(moved);
      return dot(def.out, values(up));
    };
    const double want = (loss(kStep) - loss(-kStep)) / (2 * kStep);
    const Values got = values(tape.grad(g.in[i]));
    const double size = std::sqrt(dot(got, got));
    CHECK(std::isfinite(size));
    CHECK(std::abs(dot(got, way) - want) <= kGradient * (size + std::abs(want)));
  }
}

}  // namespace

TEST_CASE("RWKV-7's and RWKV-6's recurrences are exact under decays of every strength") {
  for (const Decays kind : {Decays::kMild, Decays::kStrong, Decays::kMixed, Decays::kNone}) {
    check(true, kind);
    check(false, kind);
  }
}

}  // namespace braid
