// The choice of the sparse mixers: the largest scores against a stable sort, index scores against
// their definition in double, chosen latents against copies of them.

#include "braid/ops/indexer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "braid/ops/latent_attention.h"
#include "braid/ops/selected_attention.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::random_tensor;

// Positions of the `count` largest, rising; of equal ones the first.
std::vector<int32_t> sorted_choice(std::span<const float> scores, int64_t count) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(std::min<int64_t>(count, std::ssize(order))));
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace

TEST_CASE("the largest scores: those of a stable sort, with ties, signs, zeros and infinities") {
  Context ctx;
  const Tensor smooth = random_tensor(ctx, {3000}, "scores");
  Tensor rough = Tensor::empty(ctx, {3000});
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < 3000; ++i) {
    const float x = std::round(2 * smooth.data()[i]) / 2;  // many ties, zeros of both signs
    rough.data()[i] = i % 500 == 3 ? kInf : i % 500 == 4 ? -kInf : x;
  }
  for (const Tensor& t : {smooth, rough}) {
    const std::span<const float> scores(t.data(), 3000);
    for (const int64_t count : {0, 1, 2, 7, 100, 1500, 2048, 2994, 2999, 3000, 4000})
      CHECK(largest(scores, count) == sorted_choice(scores, count));
  }
  const std::vector<float> equal(100, -0.0f);
  CHECK(largest(equal, 10) == sorted_choice(equal, 10));
}

TEST_CASE("NaN is the largest score: lists are as long with it as without") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> all(50, nan), negative(50, -nan);
  CHECK(largest(all, 3) == std::vector<int32_t>{0, 1, 2});
  CHECK(largest(negative, 3) == std::vector<int32_t>{0, 1, 2});
  std::vector<float> some(50, 1.0f);
  some[7] = nan;
  some[9] = -nan;
  some[30] = 2.0f;
  CHECK(largest(some, 4) == std::vector<int32_t>{0, 7, 9, 30});
  CHECK(largest(some, 1) == std::vector<int32_t>{7});
  const std::vector<double> wide(some.begin(), some.end());
  CHECK(largest(wide, 4) == std::vector<int32_t>{0, 7, 9, 30});
}

TEST_CASE("the indexer chooses by its definition, for any number of heads and channels") {
  Context ctx;
  struct Size {
    int64_t heads, dim;
  };
  for (const Size n : {Size{1, 1}, {3, 6}, {16, 128}, {17, 20}, {64, 32}}) {
    const int64_t length = 700, top = 90, queries = 3, first = length - queries;
    const Tensor q = random_tensor(ctx, {queries, n.heads, n.dim}, "q");
    const Tensor w = random_tensor(ctx, {queries, n.heads}, "w"),
                 k = random_tensor(ctx, {length, n.dim}, "k");
    const KeyPages keys(ctx, k);
    const std::vector<Chosen> got = choose_keys(ctx, q, w, keys.view(), first, top);
    for (int64_t i = 0; i < queries; ++i) {
      std::vector<double> scores;
      for (int64_t t = 0; t <= first + i; ++t) {
        double sum = 0;
        for (int64_t j = 0; j < n.heads; ++j) {
          double dot = 0;
          for (int64_t c = 0; c < n.dim; ++c)
            dot += double{q.data()[(i * n.heads + j) * n.dim + c]} * k.data()[t * n.dim + c];
          sum += w.data()[i * n.heads + j] * std::max(dot, 0.0);
        }
        scores.push_back(sum);
      }
      const Chosen& chosen = got[static_cast<size_t>(i)];
      REQUIRE(std::ssize(chosen) == top);
      CHECK(std::is_sorted(chosen.begin(), chosen.end()));
      std::vector<char> in(scores.size());
      double least = HUGE_VAL, size = 0;
      for (const int32_t t : chosen) {
        in[static_cast<size_t>(t)] = 1;
        least = std::min(least, scores[static_cast<size_t>(t)]);
      }
      for (const double s : scores) size = std::max(size, std::abs(s));
      // What was left out is no larger, but for the rounding of sums in f32.
      for (size_t t = 0; t < scores.size(); ++t) {
        if (!in[t]) CHECK(scores[t] <= least + 1e-5 * size);
      }
    }
  }
}

TEST_CASE("attention to chosen latents is attention to a copy of them, bit for bit") {
  Context ctx;
  const LatentConfig c{3, 40, 8, 4, 8, 0.3f};
  const int64_t length = 900;
  const Tensor rows = random_tensor(ctx, {length, c.rank + c.rope}, "rows");
  Parameter kv_b;
  kv_b.value = random_tensor(ctx, {c.heads * (c.nope + c.dv), c.rank}, "kv_b", 0.2);
  const Tensor q = random_tensor(ctx, {1, c.heads, c.nope + c.rope}, "q");
  const int64_t starts[] = {0, 1};
  for (const KvType type : {KvType::kF32, KvType::kBF16, KvType::kQ8}) {
    const LatentLayout layout{type, c.rank, c.rope};
    const auto pages_of = [&](const std::vector<int32_t>& positions, Tensor& memory,
                              std::vector<const std::byte*>& pages) {
      const int64_t count = (std::ssize(positions) + kLatentPage - 1) / kLatentPage;
      memory = Tensor::zeros(ctx, {count, layout.page()}, DType::kU8);
      for (int64_t p = 0; p < count; ++p)
        pages.push_back(memory.data<std::byte>() + p * layout.page());
      for (size_t i = 0; i < positions.size(); ++i) {
        const float* from = rows.data() + positions[i] * (c.rank + c.rope);
        pack_latent(layout, from, from + c.rank,
                    memory.data<std::byte>() + static_cast<int64_t>(i) * layout.row());
      }
      return LatentView{pages.data(), std::ssize(positions), layout};
    };
    std::vector<int32_t> all(static_cast<size_t>(length)), some;
    std::iota(all.begin(), all.end(), 0);
    for (int32_t t = 1; t < length; t += t % 7 == 0 ? 5 : 1) some.push_back(t);
    Tensor memory, copied;
    std::vector<const std::byte*> pages, copied_pages;
    const LatentView whole = pages_of(all, memory, pages);
    const LatentView apart = pages_of(some, copied, copied_pages);
    const LatentView chosen = chosen_latents(whole, some);
    const Tensor a = latent_attention(ctx, c, q, kv_b, starts, {&chosen, 1});
    const Tensor b = latent_attention(ctx, c, q, kv_b, starts, {&apart, 1});
    CHECK(std::memcmp(a.data(), b.data(), a.bytes()) == 0);
  }
}

}  // namespace braid
