#include "braid/ops/block_choice.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "braid/ops/indexer.h"
#include "braid/state/kv_state.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

constexpr int64_t kHeads = 4, kKvHeads = 2, kDim = 10, kRow = kKvHeads * kDim;
const AttentionConfig kConfig{kHeads, kKvHeads, kDim, 0.3f};

// scale q . k in double: head h of token t, row i of k [n, Hkv, d].
double score(const Tensor& q, const Tensor& k, int64_t t, int64_t h, int64_t i) {
  double sum = 0;
  for (int64_t c = 0; c < kDim; ++c) {
    sum += double{q.data()[(t * kHeads + h) * kDim + c]} *
           k.data()[i * kRow + h / (kHeads / kKvHeads) * kDim + c];
  }
  return sum * kConfig.scale;
}

GrowingKv kept(const Context& ctx, const Tensor& k, const Tensor& v, KvType type, int64_t tiles) {
  GrowingKv kv(ctx, {.heads = kKvHeads, .head_dim = kDim}, type, {.tiles = tiles});
  kv.append(ctx, k.data(), kRow, v.data(), kRow, k.size(0));
  return kv;
}

Chosen best(std::vector<double> scores, int64_t first, int64_t count) {
  Chosen list;
  for (int64_t i = 0; i < count && i < std::ssize(scores); ++i) {
    const auto most = std::max_element(scores.begin(), scores.end());
    list.push_back(static_cast<int32_t>(first + (most - scores.begin())));
    *most = -HUGE_VAL;
  }
  std::sort(list.begin(), list.end());
  return list;
}

}  // namespace

TEST_CASE("similar blocks are those whose mean key has the largest product with the query") {
  const Context ctx;
  const int64_t block = 7, top = 3, n = 90, first = 5;
  const Tensor q = testing::random_tensor(ctx, {n, kHeads, kDim}, "q");
  const Tensor means = testing::random_tensor(ctx, {(first + n) / block, kKvHeads, kDim}, "means");
  const KeyPages pages(ctx, means.reshape({means.size(0), kRow}));
  const std::vector<Chosen> got =
      choose_similar_blocks(ctx, q, first, pages.view(), kKvHeads, block, top);
  REQUIRE(std::ssize(got) == n * kHeads);
  for (int64_t i = 0; i < n * kHeads; ++i) {
    const int64_t own = (first + i / kHeads) / block;
    std::vector<double> scores;
    for (int64_t b = 0; b < own; ++b) scores.push_back(score(q, means, i / kHeads, i % kHeads, b));
    Chosen want = best(scores, 0, top - 1);
    want.push_back(static_cast<int32_t>(own));
    CHECK(got[static_cast<size_t>(i)] == want);
  }
}

TEST_CASE("important blocks are those whose strides have the largest share of the probabilities") {
  const Context ctx;
  const int64_t n = 150, first = 3;
  const struct {
    KvBlocks compressed;
    int64_t block, top;
  } shapes[] = {{{4, 2}, 8, 5}, {{8, 8}, 8, 4}, {{6, 2}, 6, 6}, {{1, 1}, 10, 3}};
  for (const auto& s : shapes) {
    const Tensor q = testing::random_tensor(ctx, {n, kHeads, kDim}, "q");
    const Tensor k =
        testing::random_tensor(ctx, {s.compressed.whole(first + n), kKvHeads, kDim}, "k");
    const GrowingKv kv = kept(ctx, k, k, KvType::kF32, 4);
    const std::vector<Chosen> got =
        choose_important_blocks(ctx, kConfig, q, first, kv.view(), s.compressed, s.block, s.top);
    for (int64_t i = 0; i < n * kKvHeads; ++i) {
      const int64_t t = i / kKvHeads, kv_head = i % kKvHeads, own = (first + t) / s.block;
      // Of every token of a block the probabilities of the compressed ones that hold it.
      std::vector<double> share(static_cast<size_t>(own + 1));
      const int64_t seen = s.compressed.whole(first + t + 1), group = kHeads / kKvHeads;
      for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
        std::vector<double> p;
        double total = 0;
        for (int64_t b = 0; b < seen; ++b) total += p.emplace_back(std::exp(score(q, k, t, h, b)));
        for (int64_t b = 0; b < seen; ++b) {
          const int64_t begin = b * s.compressed.stride;
          for (int64_t token = begin; token < begin + s.compressed.block; ++token)
            share[static_cast<size_t>(token / s.block)] += p[static_cast<size_t>(b)] / total;
        }
      }
      Chosen want = {0};
      if (own > 2) {
        const auto middle = best({share.begin() + 1, share.begin() + own - 1}, 1, s.top - 3);
        want.insert(want.end(), middle.begin(), middle.end());
      }
      if (own > 1) want.push_back(static_cast<int32_t>(own - 1));
      if (own > 0) want.push_back(static_cast<int32_t>(own));
      CHECK(got[static_cast<size_t>(i)] == want);
    }
  }
}

// Few tokens take the decode kernel, many go in tiles; some of those have no keys.
TEST_CASE("attention over chosen positions of kept keys and values") {
  const Context ctx;
  const int64_t length = 400;
  const Tensor k = testing::random_tensor(ctx, {length, kKvHeads, kDim}, "k");
  const Tensor v = testing::random_tensor(ctx, {length, kKvHeads, kDim}, "v");
  for (const auto& [sets, n] :
       {std::pair<int64_t, int64_t>{kKvHeads, 3}, {kHeads, 3}, {kKvHeads, 75}, {kHeads, 75}}) {
    CAPTURE(sets);
    CAPTURE(n);
    const Tensor q = testing::random_tensor(ctx, {n, kHeads, kDim}, "q");
    KeyRuns runs;
    runs.sets = sets;
    runs.starts.push_back(0);
    for (int64_t list = 0; list < n * sets; ++list) {
      for (int64_t p = list;
           p < length && list % 13 != 12;) {  // runs of all lengths, within tiles and across
        const int64_t end = std::min(length, p + 1 + p * 5 % 90);
        runs.runs.push_back({static_cast<int32_t>(p), static_cast<int32_t>(end)});
        p = end + 1 + (p * 7 + list) % (40 * (list % 3) + 1);
      }
      runs.starts.push_back(std::ssize(runs.runs));
    }
    const auto positions = [&, sets = sets](int64_t t, int64_t set) {
      Chosen list;
      for (int64_t r = runs.starts[t * sets + set]; r < runs.starts[t * sets + set + 1]; ++r) {
        for (int32_t p = runs.runs[r].begin; p < runs.runs[r].end; ++p) list.push_back(p);
      }
      return list;
    };
    std::vector<double> want;
    for (int64_t t = 0; t < n; ++t) {
      for (int64_t h = 0; h < kHeads; ++h) {
        std::vector<double> out(kDim);
        double total = 0;
        for (const int32_t i : positions(t, h * sets / kHeads)) {
          const double p = std::exp(score(q, k, t, h, i));
          total += p;
          for (int64_t c = 0; c < kDim; ++c)
            out[static_cast<size_t>(c)] +=
                p * v.data()[i * kRow + h / (kHeads / kKvHeads) * kDim + c];
        }
        for (const double x : out) want.push_back(total > 0 ? x / total : 0);
      }
    }
    for (const KvType type : {KvType::kF32, KvType::kBF16, KvType::kQ8}) {
      const GrowingKv kv = kept(ctx, k, v, type, 1);
      const Tensor got = chosen_attention_kept(ctx, kConfig, q, kv.view(), runs);
      // Half a unit of bf16's 8 bits, of q8's 7, of keys and values of size 3.
      const double tolerance = type == KvType::kF32 ? 4e-6 : type == KvType::kBF16 ? 1e-2 : 3e-2;
      CHECK(testing::worst_error(got, want) <= tolerance);
    }
  }
}

}  // namespace braid
