#include "braid/ops/latent_attention.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "braid/ops/weight.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

// Latents of one sequence in pages, as a state would hold them.
struct Cache {
  Cache(const Context& ctx, const LatentLayout& layout, const Tensor& c, const Tensor& k) {
    view.layout = layout;
    const int64_t pages = (c.size(0) + kLatentPage - 1) / kLatentPage;
    memory = Tensor::zeros(ctx, {pages, layout.page()}, DType::kU8);
    for (int64_t p = 0; p < pages; ++p)
      pointers.push_back(memory.data<std::byte>() + p * layout.page());
    view.pages = pointers.data();
    view.length = c.size(0);
    for (int64_t t = 0; t < c.size(0); ++t) {
      std::byte* row = memory.data<std::byte>() + t * layout.row();
      pack_latent(layout, c.data() + t * layout.rank, k.data() + t * layout.rope, row);
    }
    rows = Tensor::empty(ctx, {c.size(0), layout.width()});
    unpack_latents(layout, memory.data<std::byte>(), c.size(0), rows.data());
  }
  Tensor memory, rows;  // rows: what is stored, as numbers
  std::vector<const std::byte*> pointers;
  LatentView view;
};

// The definition in double for the last queries of one sequence: keys and values of every head from
// the latents, every score. q [T, H, dn + dr].
std::vector<double> definition(const LatentConfig& c, const Tensor& q, const Tensor& kv_b,
                               const Tensor& rows) {
  const int64_t tokens = q.size(0), length = rows.size(0), w = c.rank + c.rope;
  const int64_t d = c.nope + c.rope;
  std::vector<double> out;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t h = 0; h < c.heads; ++h) {
      const float* query = q.data() + (t * c.heads + h) * d;
      const float* up = kv_b.data() + h * (c.nope + c.dv) * c.rank;
      // The query against the latents, through the keys' projection.
      std::vector<double> turned(static_cast<size_t>(c.rank)), p;
      for (int64_t i = 0; i < c.nope; ++i) {
        for (int64_t j = 0; j < c.rank; ++j) turned[j] += double{query[i]} * up[i * c.rank + j];
      }
      double most = -HUGE_VAL, total = 0;
      for (int64_t s = 0; s <= length - tokens + t; ++s) {
        double score = 0;
        for (int64_t j = 0; j < c.rank; ++j) score += turned[j] * rows.data()[s * w + j];
        for (int64_t i = 0; i < c.rope; ++i)
          score += double{query[c.nope + i]} * rows.data()[s * w + c.rank + i];
        p.push_back(score * c.scale);
        most = std::max(most, p.back());
      }
      std::vector<double> sum(static_cast<size_t>(c.rank));
      for (double& x : p) total += x = std::exp(x - most);
      for (size_t s = 0; s < p.size(); ++s) {
        for (int64_t j = 0; j < c.rank; ++j)
          sum[j] += p[s] / total * rows.data()[static_cast<int64_t>(s) * w + j];
      }
      for (int64_t i = 0; i < c.dv; ++i) {
        double o = 0;
        for (int64_t j = 0; j < c.rank; ++j) o += sum[j] * up[(c.nope + i) * c.rank + j];
        out.push_back(o);
      }
    }
  }
  return out;
}

}  // namespace

TEST_CASE("latent attention: ragged batches in either form, any type, any number of threads") {
  // The first config absorbs nearly always, the last expands as soon as there are a few tokens.
  for (const LatentConfig& c :
       {LatentConfig{3, 24, 12, 4, 10, 0.2f}, LatentConfig{70, 16, 8, 2, 8, 0.3f},
        LatentConfig{2, 96, 8, 6, 8, 0.2f}, LatentConfig{2, 40, 8, 0, 4, 0.3f}}) {
    for (const KvType type : {KvType::kF32, KvType::kBF16, KvType::kQ8}) {
      Context ctx;
      const LatentLayout layout{type, c.rank, c.rope};
      const std::vector<int64_t> starts{0, 1, 41, 44, 44, 45}, lengths{1100, 900, 3, 7, 600};
      const int64_t d = c.nope + c.rope;
      const Tensor q = testing::random_tensor(ctx, {45, c.heads, d}, "q");
      Parameter kv_b = testing::random_parameter(ctx, {c.heads * (c.nope + c.dv), c.rank}, "kv_b");
      std::vector<Cache> caches;
      std::vector<LatentView> views;
      for (const int64_t n : lengths) {
        caches.emplace_back(ctx, layout, testing::random_tensor(ctx, {n, c.rank}, "c"),
                            testing::random_tensor(ctx, {n, c.rope}, "k"));
      }
      for (Cache& cache : caches) {
        cache.view.pages = cache.pointers.data();
        views.push_back(cache.view);
      }
      Tensor got;
      for (const int threads : {1, 2}) {
        ctx.threads = threads;
        const Tensor y = latent_attention(ctx, c, q, kv_b, starts, views);
        if (threads == 1) got = y;
        CHECK(std::memcmp(got.data(), y.data(), y.bytes()) == 0);
      }
      for (size_t s = 0; s < lengths.size(); ++s) {
        const int64_t count = starts[s + 1] - starts[s];
        if (count == 0) continue;
        const std::vector<double> want =
            definition(c, q.narrow(0, starts[s], count), kv_b.value, caches[s].rows);
        CHECK(testing::worst_error(got.narrow(0, starts[s], count), want) <
              1e-5);  // three products in a row
      }
    }
  }
}

TEST_CASE("a few tokens give the bits of one after the other") {
  Context ctx;
  const LatentConfig c{40, 32, 12, 4, 20, 0.2f};
  const LatentLayout layout{KvType::kQ8, 32, 4};
  const Parameter kv_b = testing::random_parameter(ctx, {40 * 32, 32}, "kv_b");
  for (const int64_t length : {4, 66, 515}) {
    const Tensor latents = testing::random_tensor(ctx, {length, 32}, "c"),
                 keys = testing::random_tensor(ctx, {length, 4}, "k"),
                 q = testing::random_tensor(ctx, {4, 40, 16}, "q");
    const Cache whole(ctx, layout, latents, keys);
    const std::vector<int64_t> four{0, 4}, one{0, 1};
    const Tensor together = latent_attention(ctx, c, q, kv_b, four, {&whole.view, 1});
    for (int64_t t = 0; t < 4; ++t) {
      LatentView view = whole.view;
      view.length = length - 3 + t;
      const Tensor alone = latent_attention(ctx, c, q.narrow(0, t, 1), kv_b, one, {&view, 1});
      CHECK(std::memcmp(alone.data(), together.data() + t * 800, alone.bytes()) == 0);
    }
  }
}

TEST_CASE("an up-projection in bf16 gives what its numbers give in f32") {
  Context ctx;
  const LatentConfig c{3, 32, 12, 4, 20, 0.2f};
  Parameter wide = testing::random_parameter(ctx, {3 * 32, 32}, "kv_b"), kept = wide;
  Parameter large = testing::random_parameter(ctx, {256, 256}, "large");
  large.role = ParamRole::kMatrix;
  CHECK(weight_type_for(large, WeightType::kQ8) == WeightType::kQ8);
  large.by_columns = true;
  CHECK(weight_type_for(large, WeightType::kQ8) == WeightType::kBF16);
  kept.weight = pack_weight(ctx, WeightType::kBF16, wide.shape(), [&](int64_t row, float* out) {
    std::copy_n(wide.value.data() + row * 32, 32, out);
  });
  wide.value = dense_value(ctx, kept);
  const LatentLayout layout{KvType::kF32, 32, 4};
  const Cache cache(ctx, layout, testing::random_tensor(ctx, {300, 32}, "c"),
                    testing::random_tensor(ctx, {300, 4}, "k"));
  for (const int64_t tokens : {1, 3, 6, 290}) {
    const Tensor q = testing::random_tensor(ctx, {tokens, 3, 16}, "q");
    const std::vector<int64_t> starts{0, tokens};
    const Tensor a = latent_attention(ctx, c, q, kept, starts, {&cache.view, 1});
    const Tensor b = latent_attention(ctx, c, q, wide, starts, {&cache.view, 1});
    CHECK(testing::worst_error(a, b) < 1e-6);
  }
}

TEST_CASE("latents of a type are near the numbers they keep") {
  Context ctx;
  const Tensor c = testing::random_tensor(ctx, {9, 50}, "c"),
               k = testing::random_tensor(ctx, {9, 6}, "k");
  for (const KvType type : {KvType::kF32, KvType::kBF16, KvType::kQ8}) {
    const Cache cache(ctx, {type, 50, 6}, c, k);
    CHECK(testing::worst_error(cache.rows.narrow(1, 0, 50), c) <= (type == KvType::kF32    ? 0
                                                                   : type == KvType::kBF16 ? 4e-3
                                                                                           : 4e-3));
    CHECK(testing::worst_error(cache.rows.narrow(1, 50, 6), k) <=
          (type == KvType::kF32 ? 0 : 4e-3));
  }
  CHECK(LatentLayout{KvType::kF32, 512, 64}.row() == 2304);
  CHECK(LatentLayout{KvType::kBF16, 512, 64}.row() == 1152);  // V3 keeps 1152 bytes a token
  CHECK(LatentLayout{KvType::kQ8, 512, 64}.row() == 576 + 4 * 18);
}

TEST_CASE("the form follows the products it needs") {
  const LatentConfig v3{128, 512, 128, 64, 128, 0.1f};
  CHECK(absorbed_flops(v3, 16384, 1) < expanded_flops(v3, 16384, 1) / 50);
  CHECK(absorbed_flops(v3, 16384, 100) < expanded_flops(v3, 16384, 100));
  CHECK(absorbed_flops(v3, 16384, 512) > expanded_flops(v3, 16384, 512));
  CHECK(absorbed_flops(v3, 0, 512) > expanded_flops(v3, 0, 512));
}

}  // namespace braid
