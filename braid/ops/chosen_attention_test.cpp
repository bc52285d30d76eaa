#include "braid/ops/chosen_attention.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "braid/ops/attention.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

constexpr int64_t kHeads = 4, kKvHeads = 2, kDim = 6, kGroup = kHeads / kKvHeads;
const AttentionConfig kConfig{kHeads, kKvHeads, kDim, 0.4f};

// Tokens of three sequences and keys of as many, an empty one among them; lists of every length,
// none at all too.
struct Case {
  std::vector<int64_t> q_starts = {0, 150, 150, 219}, k_starts = {0, 200, 203, 290};
  KeyRuns runs;

  explicit Case(int64_t sets) {
    runs.sets = sets;
    runs.starts.push_back(0);
    for (int64_t i = 0; i < q_starts.back() * sets; ++i) {
      const int64_t keys = i / sets < 150 ? 200 : 87;
      for (int64_t p = i * 7 % 90; p < keys && i % 11 != 5;) {
        const int64_t end = std::min(keys, p + 1 + (i + p) % 70);
        runs.runs.push_back({static_cast<int32_t>(p), static_cast<int32_t>(end)});
        p = end + 1 + (i * 3 + p) % 60;
      }
      runs.starts.push_back(std::ssize(runs.runs));
    }
  }
};

struct Reference {
  std::vector<double> out, dq, dk, dv;
};

Reference reference(const Case& c, const Tensor& q, const Tensor& k, const Tensor& v,
                    const Tensor& up) {
  Reference r{std::vector<double>(q.count()), std::vector<double>(q.count()),
              std::vector<double>(k.count()), std::vector<double>(v.count())};
  for (int64_t t = 0; t < q.size(0); ++t) {
    const int64_t first = c.k_starts[t < 150 ? 0 : 2];
    for (int64_t h = 0; h < kHeads; ++h) {
      const size_t list = static_cast<size_t>(t * c.runs.sets + h * c.runs.sets / kHeads);
      const int64_t at = (t * kHeads + h) * kDim;
      std::vector<int64_t> rows;
      for (int64_t i = c.runs.starts[list]; i < c.runs.starts[list + 1]; ++i) {
        for (int64_t p = c.runs.runs[i].begin; p < c.runs.runs[i].end; ++p)
          rows.push_back(((first + p) * kKvHeads + h / kGroup) * kDim);
      }
      std::vector<double> p, dp;
      double total = 0, mean = 0;
      for (const int64_t row : rows) {
        double score = 0;
        for (int64_t i = 0; i < kDim; ++i) score += double{q.data()[at + i]} * k.data()[row + i];
        total += p.emplace_back(std::exp(score * kConfig.scale));
      }
      for (size_t j = 0; j < rows.size(); ++j) {
        p[j] /= total;
        double by = 0;
        for (int64_t i = 0; i < kDim; ++i) {
          r.out[at + i] += p[j] * v.data()[rows[j] + i];
          r.dv[rows[j] + i] += p[j] * up.data()[at + i];
          by += double{up.data()[at + i]} * v.data()[rows[j] + i];
        }
        dp.push_back(by);
        mean += p[j] * by;
      }
      for (size_t j = 0; j < rows.size(); ++j) {
        const double ds = p[j] * (dp[j] - mean) * kConfig.scale;
        for (int64_t i = 0; i < kDim; ++i) {
          r.dq[at + i] += ds * k.data()[rows[j] + i];
          r.dk[rows[j] + i] += ds * q.data()[at + i];
        }
      }
    }
  }
  return r;
}

}  // namespace

TEST_CASE("attention over runs of chosen keys, values and gradients, for any number of threads") {
  for (const int64_t sets : {int64_t{1}, kKvHeads, kHeads}) {
    CAPTURE(sets);
    const Case c(sets);
    std::vector<double> first;
    for (const int threads : {1, 2}) {
      Context ctx;
      ctx.threads = threads;
      Tensor q = testing::random_tensor(ctx, {c.q_starts.back(), kHeads, kDim}, "q");
      Tensor k = testing::random_tensor(ctx, {c.k_starts.back(), kKvHeads, kDim}, "k");
      Tensor v = testing::random_tensor(ctx, {c.k_starts.back(), kKvHeads, kDim}, "v");
      const Tensor up = testing::random_tensor(ctx, q.shape(), "up");
      const Reference want = reference(c, q, k, v, up);
      Tape tape;
      Context train = ctx;
      train.tape = &tape;
      for (Tensor* x : {&q, &k, &v}) tape.watch(*x);
      const Tensor out = chosen_attention(train, kConfig, q, k, v, c.runs, c.q_starts, c.k_starts);
      tape.backward(ctx, out, up);
      CHECK(testing::worst_error(out, want.out) <= 4e-6);
      CHECK(testing::worst_error(tape.grad(q), want.dq) <= 2e-5);
      CHECK(testing::worst_error(tape.grad(k), want.dk) <= 2e-5);
      CHECK(testing::worst_error(tape.grad(v), want.dv) <= 2e-5);
      std::vector<double> all = testing::values(out);
      for (const Tensor* x : {&q, &k, &v}) {
        const std::vector<double> g = testing::values(tape.grad(*x));
        all.insert(all.end(), g.begin(), g.end());
      }
      if (threads == 1) first = all;
      CHECK(all == first);
    }
  }
}

TEST_CASE("attention over all keys before a token is causal attention; scores may be large") {
  const Context ctx;
  const int64_t n = 130;
  KeyRuns runs;
  runs.starts.push_back(0);
  for (int32_t t = 0; t < n; ++t) {
    runs.runs.push_back({0, t + 1});
    runs.starts.push_back(t + 1);
  }
  // Keys that a query does not see may have scores far above those that it does.
  Tensor q = testing::random_tensor(ctx, {n, kHeads, kDim}, "q", 30);
  Tensor k = testing::random_tensor(ctx, {n, kKvHeads, kDim}, "k", 30);
  const Tensor v = testing::random_tensor(ctx, {n, kKvHeads, kDim}, "v");
  const Tensor up = testing::random_tensor(ctx, q.shape(), "up");
  const std::vector<int64_t> starts = {0, n};
  std::vector<std::vector<double>> both;
  for (const bool chosen : {false, true}) {
    Tape tape;
    Context train = ctx;
    train.tape = &tape;
    tape.watch(q);
    tape.watch(k);
    const Tensor out = chosen ? chosen_attention(train, kConfig, q, k, v, runs, starts, starts)
                              : attention(train, kConfig, q, k, v, starts);
    tape.backward(ctx, out, up);
    both.push_back(testing::values(out));
    for (const Tensor* x : {&q, &k}) {
      const std::vector<double> g = testing::values(tape.grad(*x));
      both.back().insert(both.back().end(), g.begin(), g.end());
    }
  }
  CHECK(testing::worst_error(both[1], both[0]) <= 2e-5);
}

}  // namespace braid
