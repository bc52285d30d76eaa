#include "braid/ops/attention.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "braid/base/rng.h"
#include "braid/kernels/attention/forward_int16.h"
#include "braid/kernels/attention/kv_convert.h"
#include "braid/kernels/simd/amx.h"
#include "braid/ops/step.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

Tensor random(const Context& ctx, Shape shape, uint64_t seed) {
  Tensor t = Tensor::empty(ctx, shape);
  const Rng rng(seed, "attention_test");
  for (int64_t i = 0; i < t.count(); ++i)
    t.data()[i] = static_cast<float>(rng.normal(static_cast<uint64_t>(i)));
  return t;
}

struct Reference {
  std::vector<double> out, dq, dk, dv, dsinks;
};

// The definition, in double, T x T: o = softmax(cap(scale q k^T)) v over the keys that t sees, and
// the gradients of sum(o * up) by the chain rule through the softmax. Queries before row `from` are
// left out. v and up have c.values() channels.
Reference reference(const AttentionConfig& c, const float* q, const float* k, const float* v,
                    const float* up, const std::vector<int64_t>& starts, int64_t from = 0) {
  const int64_t d = c.head_dim, dv = c.values(), tokens = starts.back(), nq = c.heads * d,
                nk = c.kv_heads * d, no = c.heads * dv, nv = c.kv_heads * dv;
  Reference r;
  r.out.resize(static_cast<size_t>(tokens * no));
  r.dq.resize(static_cast<size_t>(tokens * nq));
  r.dk.resize(static_cast<size_t>(tokens * nk));
  r.dv.resize(static_cast<size_t>(tokens * nv));
  r.dsinks.resize(static_cast<size_t>(c.heads));
  for (size_t s = 0; s + 1 < starts.size(); ++s) {
    for (int64_t t = std::max(from, starts[s]); t < starts[s + 1]; ++t) {
      const int64_t place = t - starts[s];
      std::vector<int64_t> seen;  // rows
      for (int64_t j = 0; j <= place; ++j) {
        const bool near = c.window == 0 || place - j < c.window || j < c.prefix;
        if (near && (c.chunk == 0 || j / c.chunk == place / c.chunk)) seen.push_back(starts[s] + j);
      }
      for (int64_t h = 0; h < c.heads; ++h) {
        const int64_t at = t * nq + h * d, at_v = t * no + h * dv;
        const int64_t kv = h / c.group() * d, kv_v = h / c.group() * dv;
        std::vector<double> p, dp, slope;
        const double sink = c.sinks == nullptr ? -HUGE_VAL : c.sinks[h];
        double most = std::max(-1e300, sink), mean = 0;
        for (const int64_t j : seen) {
          double score = 0;
          for (int64_t i = 0; i < d; ++i) score += double{q[at + i]} * k[j * nk + kv + i];
          score *= c.scale;
          const double turned = c.softcap > 0 ? std::tanh(score / c.softcap) : 0;
          slope.push_back(1 - turned * turned);
          p.push_back(c.softcap > 0 ? c.softcap * turned : score);
          most = std::max(most, p.back());
        }
        const double none = std::exp(sink - most);
        double total = none;
        for (double& x : p) total += x = std::exp(x - most);
        for (double& x : p) x /= total;
        for (size_t n = 0; n < seen.size(); ++n) {
          const int64_t j = seen[n];
          double g = 0;
          for (int64_t i = 0; i < dv; ++i) {
            r.out[at_v + i] += p[n] * v[j * nv + kv_v + i];
            r.dv[j * nv + kv_v + i] += p[n] * up[at_v + i];
            g += double{up[at_v + i]} * v[j * nv + kv_v + i];
          }
          dp.push_back(g);
          mean += p[n] * g;
        }
        r.dsinks[h] -= none / total * mean;
        for (size_t n = 0; n < seen.size(); ++n) {
          const int64_t j = seen[n];
          const double ds = p[n] * (dp[n] - mean) * slope[n] * c.scale;
          for (int64_t i = 0; i < d; ++i) {
            r.dq[at + i] += ds * k[j * nk + kv + i];
            r.dk[j * nk + kv + i] += ds * q[at + i];
          }
        }
      }
    }
  }
  return r;
}

// Largest difference relative to the largest reference value; where that is (nearly) zero, as the
// gradients of a window of one key are, relative to a tenth of the inputs' size.
double distance(const Tensor& got, const std::vector<double>& want) {
  double worst = 0, largest = 0.1;
  for (size_t i = 0; i < want.size(); ++i) {
    const double difference = std::abs(got.data()[i] - want[i]);
    if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, difference);
    largest = std::max(largest, std::abs(want[i]));
  }
  return worst / largest;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

// Keys and values of one sequence in tiles, as a state would hold them: those of the prefix, and
// those from first_tile on.
struct Cache {
  Cache(const Context& ctx, const AttentionConfig& c, const Tensor& k, const Tensor& v,
        int64_t first_tile = 0, KvType type = KvType::kF32)
      : ld(c.kv_heads * c.head_dim), config(c), k(k), v(v) {
    view.layout = {type, c.head_dim, c.head_dim, 1};
    bytes = view.layout.page(c.kv_heads);
    const int64_t tiles = kv_tiles(k.size(0));
    memory = Tensor::zeros(ctx, {tiles, bytes}, DType::kU8);
    view.kept_pages = std::min(kv_tiles(c.prefix), tiles);
    view.first_page = std::max(first_tile, view.kept_pages);
    for (int64_t t = 0; t < tiles; ++t)
      if (view.holds(t)) pages.push_back(page(t));
    view.pages = pages.data();
  }
  std::byte* page(int64_t tile) const { return memory.data<std::byte>() + tile * bytes; }
  void append(int64_t count) {
    for (int64_t i = 0; i < count; ++i, ++view.length) {
      const KvRows rows{k.data() + view.length * ld, ld, v.data() + view.length * ld, ld};
      const int64_t tile = view.length / kKvTile;
      pack_kv_rows(view.layout, config.kv_heads, rows, tile, view.length % kKvTile, 1, page(tile));
    }
  }
  int64_t bytes = 0, ld;
  AttentionConfig config;
  Tensor k, v, memory;
  std::vector<const std::byte*> pages;
  KvView view;
};

struct Case {
  int64_t heads, kv_heads, d, window;
  std::vector<int64_t> lengths;
  int64_t chunk = 0, dv = 0;
  float softcap = 0;
  bool sinks = false;
  int64_t prefix = 0;
};

AttentionConfig of_rounded(AttentionConfig c) {
  c.rounded = true;
  return c;
}

AttentionConfig keeping(AttentionConfig c, int64_t prefix) {
  c.prefix = prefix;
  return c;
}

// 400 eps: sums of up to 1000 products in f32, whose rounding grows as the root of their number.
constexpr double kForward = 4e-6, kGradient = 2e-5;
// Of 16 bits of queries, keys, values and probabilities: with matrix tiles a score of the largest
// size, 10 here, moves by 2^-17 of it.
constexpr double kParts = 8e-5;
// In integers (kernels/attention/int16.h) the product of two rows of length one moves by 9e-6: a
// unit is 1 / 46000 and rounds by 0.29 of it, in either row. Lengths multiply to 15 here, the worst
// of some 1e5 scores moves four times as far, and a quarter of that at most, p (1 - p), passes the
// softmax: 1.4e-4, and some more for the probabilities.
constexpr double kIntegers = 2e-4;
double rounded_bound(const AttentionConfig& c) {
  return amx() ? kParts : attention_in_int16(c) ? kIntegers : kForward;
}

}  // namespace

TEST_CASE("attention and its gradients agree with the definition in double") {
  const Case cases[] = {{1, 1, 8, 0, {1}},
                        {2, 1, 16, 0, {2}},
                        {3, 3, 64, 0, {63}},
                        {4, 2, 32, 0, {64}},
                        {4, 1, 24, 0, {65}},
                        {2, 2, 128, 0, {130, 1, 64, 7}},
                        {2, 1, 64, 0, {1000}},
                        {2, 1, 40, 1, {70}},
                        {2, 2, 32, 5, {3, 200}},
                        {4, 2, 64, 64, {300}},
                        {3, 1, 20, 100, {99, 100, 101, 400}},
                        {6, 2, 7, 65, {150}},
                        {2, 1, 16, 2000, {300, 66}},
                        {4, 2, 16, 0, {200, 1, 33}, 0, 0, 0, true},
                        {2, 1, 32, 0, {150, 70}, 0, 0, 1.5f},
                        {2, 2, 8, 0, {300, 5}, 70},
                        {3, 3, 24, 0, {100, 66}, 0, 40},
                        {2, 1, 40, 0, {130}, 0, 12},
                        {4, 2, 12, 50, {260}, 64, 20, 0.9f, true},
                        {3, 3, 32, 0, {100, 66}, 0, 48},
                        {10, 1, 32, 50, {700}, 64, 16, 0.9f, true},
                        {2, 1, 16, 9, {300, 3, 65}, 0, 0, 0, false, 1},
                        {2, 2, 8, 70, {400, 64}, 0, 24, 0, true, 64},
                        {4, 2, 12, 30, {390, 100}, 0, 0, 0.9f, true, 100}};
  for (const Case& x : cases) {
    CAPTURE(x.heads);
    CAPTURE(x.d);
    CAPTURE(x.window);
    CAPTURE(x.lengths.back());
    const AttentionConfig c =
        keeping({x.heads, x.kv_heads, x.d, 1.0f / std::sqrt(static_cast<float>(x.d)), x.window,
                 x.chunk, x.softcap, x.dv},
                x.prefix);
    CAPTURE(x.prefix);
    std::vector<int64_t> starts{0};
    for (int64_t n : x.lengths) starts.push_back(starts.back() + n);
    Context ctx;
    Tape tape;
    Tensor q = random(ctx, {starts.back(), x.heads, x.d}, 1),
           k = random(ctx, {starts.back(), x.kv_heads, x.d}, 2);
    Tensor v = random(ctx, {starts.back(), x.kv_heads, c.values()}, 3),
           up = random(ctx, {starts.back(), x.heads, c.values()}, 4);
    Parameter sinks{
        "sinks", ParamRole::kVector, random(ctx, {x.heads}, 5), Tensor::zeros(ctx, {x.heads}), {}};
    for (Tensor* t : {&q, &k, &v}) tape.watch(*t);
    Context train = ctx;
    train.tape = &tape;
    const Tensor y = attention(train, c, q, k, v, starts, x.sinks ? &sinks : nullptr);
    AttentionConfig same = c;
    if (x.sinks) same.sinks = sinks.value.data();
    const Reference r = reference(same, q.data(), k.data(), v.data(), up.data(), starts);
    CHECK(distance(y, r.out) < kForward);
    tape.backward(ctx, y, up);
    CHECK(distance(tape.grad(q), r.dq) < kGradient);
    CHECK(distance(tape.grad(k), r.dk) < kGradient);
    CHECK(distance(tape.grad(v), r.dv) < kGradient);
    CHECK(distance(sinks.grad, r.dsinks) < kGradient);
    AttentionConfig rounded = c;
    rounded.rounded = true;
    CHECK(distance(attention(ctx, rounded, q, k, v, starts, x.sinks ? &sinks : nullptr), r.out) <
          rounded_bound(rounded));
    const WithoutAmx vectors;
    CHECK(distance(attention(ctx, c, q, k, v, starts, x.sinks ? &sinks : nullptr), r.out) <
          kForward);
    CHECK(distance(attention(ctx, rounded, q, k, v, starts, x.sinks ? &sinks : nullptr), r.out) <
          rounded_bound(rounded));
  }
}

TEST_CASE("flops are counted by visible pairs, those of a prefix included") {
  for (const auto& [window, prefix] :
       {std::pair<int64_t, int64_t>{0, 0}, {1, 0}, {5, 0}, {5, 1}, {5, 5}, {5, 9}, {40, 3}}) {
    const AttentionConfig c = keeping({2, 1, 8, 0.3f, window, 0, 0, 4}, prefix);
    for (const int64_t past : {0, 1, 4, 5, 6, 30}) {
      for (const int64_t tokens : {1, 2, 25}) {
        int64_t pairs = 0;
        for (int64_t t = past; t < past + tokens; ++t) {
          for (int64_t j = 0; j <= t; ++j) pairs += window == 0 || t - j < window || j < prefix;
        }
        CHECK(attention_flops(c, past, tokens) == 2.0 * (8 + 4) * 2 * static_cast<double>(pairs));
      }
    }
  }
}

TEST_CASE("large scores neither overflow nor lose the distribution") {
  Context ctx;
  const AttentionConfig c{1, 1, 16, 30.0f, 0};
  const std::vector<int64_t> starts{0, 90};
  Tensor q = random(ctx, {90, 1, 16}, 1), k = random(ctx, {90, 1, 16}, 2),
         v = random(ctx, {90, 1, 16}, 3);
  const Tensor y = attention(ctx, c, q, k, v, starts);
  const Reference r = reference(c, q.data(), k.data(), v.data(), v.data(), starts);
  CHECK(distance(y, r.out) <
        1e-3);  // scores of several hundred carry an absolute error of about 1e-4
  k.data()[40 * 16] = std::nanf("");
  const Tensor bad = attention(ctx, c, q, k, v, starts);
  CHECK(std::isfinite(bad.data()[39 * 16]));
  CHECK(std::isnan(bad.data()[40 * 16]));
}

TEST_CASE("a NaN or an infinity among what rounded weights made comes out where it does in f32") {
  Context ctx;
  const AttentionConfig c{2, 1, 32, 0.3f, 0}, rounded = of_rounded(c);
  const std::vector<int64_t> starts{0, 150};
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    for (int which = 0; which < 3; ++which) {
      const Tensor q = random(ctx, {150, 2, 32}, 1), k = random(ctx, {150, 1, 32}, 2),
                   v = random(ctx, {150, 1, 32}, 3);
      const Tensor operands[] = {q, k, v};
      operands[which].data()[70 * operands[which].size(1) * 32 + 5] = bad;
      const Tensor f32 = attention(ctx, c, q, k, v, starts);
      const Tensor got = attention(ctx, rounded, q, k, v, starts);
      int lost = 0, clean = 0;
      for (int64_t i = 0; i < got.count(); ++i) {
        lost += std::isnan(f32.data()[i]) && !std::isnan(got.data()[i]);
        clean += std::isfinite(got.data()[i]);
      }
      CHECK(lost == 0);
      CHECK(clean >= 64 * 64);  // the tile before it
    }
  }
}

TEST_CASE("packed sequences give the bits they give alone, for any number of threads") {
  AttentionConfig c{4, 2, 32, 0.2f, 50};
  SUBCASE("f32") {}
  SUBCASE("of rounded weights") { c.rounded = true; }
  const std::vector<int64_t> starts{0, 1, 66, 66, 266, 329};
  Tensor first[4];
  for (int threads : {1, 2, 3}) {
    Context ctx;
    ctx.threads = threads;
    Tape tape;
    Tensor q = random(ctx, {329, 4, 32}, 1), k = random(ctx, {329, 2, 32}, 2),
           v = random(ctx, {329, 2, 32}, 3);
    for (Tensor* t : {&q, &k, &v}) tape.watch(*t);
    Context train = ctx;
    train.tape = &tape;
    const Tensor y = attention(train, c, q, k, v, starts);
    tape.backward(ctx, y, random(ctx, q.shape(), 4));
    const Tensor all[4] = {y, tape.grad(q), tape.grad(k), tape.grad(v)};
    for (int i = 0; i < 4; ++i) {
      if (threads == 1) first[i] = all[i];
      CHECK(same_bits(first[i], all[i]));
    }
    for (size_t s = 0; s + 1 < starts.size(); ++s) {
      const int64_t n = starts[s + 1] - starts[s];
      const Tensor alone = attention(ctx, c, q.narrow(0, starts[s], n), k.narrow(0, starts[s], n),
                                     v.narrow(0, starts[s], n), std::vector<int64_t>{0, n});
      CHECK(same_bits(alone, y.narrow(0, starts[s], n)));
    }
  }
}

TEST_CASE(
    "a prefill cut into pieces longer than steps gives the bits of the whole; decode agrees within "
    "rounding") {
  for (const AttentionConfig& c :
       {AttentionConfig{4, 2, 24, 0.2f, 0}, AttentionConfig{4, 2, 24, 0.2f, 37},
        AttentionConfig{4, 2, 24, 0.2f, 0, 50, 0.7f}, AttentionConfig{4, 2, 32, 0.2f, 37},
        AttentionConfig{4, 2, 64, 0.2f, 0, 50, 0.7f},
        keeping(AttentionConfig{4, 2, 24, 0.2f, 37}, 70),
        keeping(AttentionConfig{4, 2, 32, 0.2f, 37}, 70), of_rounded({4, 2, 32, 0.2f, 37}),
        of_rounded({4, 2, 64, 0.2f, 0, 50, 0.7f}), of_rounded({4, 2, 96, 0.1f, 0})}) {
    const int64_t n = c.prefix > 0 ? 420 : 141, d = c.head_dim;
    Context ctx;
    Parameter of_heads = testing::random_parameter(ctx, {4}, "sinks");
    Parameter* sinks = c.chunk > 0 ? &of_heads : nullptr;
    const Tensor q = random(ctx, {n, 4, d}, 1), k = random(ctx, {n, 2, d}, 2),
                 v = random(ctx, {n, 2, d}, 3);
    const Tensor whole = attention(ctx, c, q, k, v, std::vector<int64_t>{0, n}, sinks);
    const std::vector<double> want(whole.data(), whole.data() + whole.count());
    for (int64_t cut = kStepTokens + 1; cut < n - kStepTokens; ++cut) {
      Cache cache(ctx, c, k, v);
      for (auto [begin, count] : {std::pair{int64_t{0}, cut}, std::pair{cut, n - cut}}) {
        cache.append(count);
        const Tensor part =
            attention_cached(ctx, c, q.narrow(0, begin, count), std::vector<int64_t>{0, count},
                             std::span(&cache.view, 1), sinks);
        CHECK(same_bits(part, whole.narrow(0, begin, count)));
      }
    }
    Cache cache(ctx, c, k, v);
    Tensor steps = Tensor::empty(ctx, whole.shape());
    for (int64_t t = 0; t < n; ++t) {
      cache.append(1);
      const Tensor y = attention_cached(ctx, c, q.narrow(0, t, 1), std::vector<int64_t>{0, 1},
                                        std::span(&cache.view, 1), sinks);
      std::memcpy(steps.data() + t * 4 * d, y.data(), y.bytes());
    }
    CHECK(distance(steps, want) < (c.rounded ? rounded_bound(c) : kForward));
  }
}

TEST_CASE(
    "decode over many blocks: groups of any size, windows, ragged batches, any number of threads") {
  for (const auto& [window, prefix] : {std::pair<int64_t, int64_t>{0, 0}, {700, 0}, {700, 100}}) {
    for (int64_t heads : {1, 3, 5, 8}) {
      const AttentionConfig c = keeping({heads, 1, 72, 0.15f, window}, prefix);
      Context ctx;
      const int64_t n = 1500;
      const Tensor k = random(ctx, {n, 1, 72}, 2), v = random(ctx, {n, 1, 72}, 3);
      const Tensor q = random(ctx, {8, heads, 72}, 1);
      std::vector<Cache> caches;
      std::vector<KvView> views;
      // One token, three tokens, then one token twice: the kinds of work may be mixed in a batch.
      const std::vector<int64_t> starts{0, 1, 4, 5, 6}, lengths{1500, 1033, 512, 1};
      for (int64_t length : lengths)
        caches.emplace_back(ctx, c, k, v, length == 1500 && window > 0 ? 12 : 0);
      for (size_t s = 0; s < caches.size(); ++s) {
        caches[s].append(lengths[s]);
        caches[s].view.pages = caches[s].pages.data();
        views.push_back(caches[s].view);
      }
      Tensor got;
      for (int threads : {1, 2}) {
        ctx.threads = threads;
        const Tensor y = attention_cached(ctx, c, q.narrow(0, 0, 6), starts, views);
        if (threads == 1) got = y;
        CHECK(same_bits(got, y));
      }
      for (size_t s = 0; s < caches.size(); ++s) {
        Tensor padded = Tensor::zeros(ctx, {lengths[s], heads, 72});
        const int64_t fresh = starts[s + 1] - starts[s], row = heads * 72;
        std::memcpy(padded.data() + (lengths[s] - fresh) * row, q.data() + starts[s] * row,
                    static_cast<size_t>(fresh * row) * sizeof(float));
        const Reference r = reference(c, padded.data(), k.data(), v.data(), padded.data(),
                                      {0, lengths[s]}, lengths[s] - fresh);
        const std::vector<double> want(r.out.end() - fresh * row, r.out.end());
        CHECK(distance(got.narrow(0, starts[s], fresh), want) < kForward);
      }
    }
  }
}

TEST_CASE("bf16 and q8 caches: prefill and decode attend over what is stored, which is near") {
  for (const KvType type : {KvType::kBF16, KvType::kQ8}) {
    for (const AttentionConfig& c :
         {AttentionConfig{4, 2, 24, 0.2f, 0}, AttentionConfig{5, 1, 10, 0.2f, 37},
          AttentionConfig{8, 1, 128, 0.1f, 0}, AttentionConfig{3, 3, 80, 0.1f, 0, 70, 2.0f},
          of_rounded({8, 1, 128, 0.1f, 0}), of_rounded({2, 2, 32, 0.2f, 37}),
          keeping(AttentionConfig{4, 2, 24, 0.2f, 37}, 70)}) {
      const int64_t n = 330, row = c.kv_heads * c.head_dim;
      Context ctx;
      const Tensor q = random(ctx, {n, c.heads, c.head_dim}, 1),
                   k = random(ctx, {n, c.kv_heads, c.head_dim}, 2), v = random(ctx, k.shape(), 3);
      Cache cache(ctx, c, k, v, 0, type);
      Tensor got = Tensor::empty(ctx, q.shape());
      for (const int64_t count : {1, 70, 1, 1, 2, 150, 1, 104}) {
        const int64_t at = cache.view.length;
        cache.append(count);
        Tensor first;
        for (int threads : {1, 2}) {
          ctx.threads = threads;
          const Tensor y =
              attention_cached(ctx, c, q.narrow(0, at, count), std::vector<int64_t>{0, count},
                               std::span(&cache.view, 1));
          if (threads == 1) first = y;
          CHECK(same_bits(first, y));
          std::memcpy(got.data() + at * c.heads * c.head_dim, y.data(), y.bytes());
        }
      }
      Tensor kept_k = Tensor::empty(ctx, k.shape()), kept_v = Tensor::empty(ctx, v.shape());
      std::vector<float> keys(static_cast<size_t>(kKvTile * c.head_dim)), values(keys.size());
      for (int64_t p = 0; p < n; ++p) {
        for (int64_t h = 0; h < c.kv_heads; ++h) {
          unpack_keys(cache.view.layout, cache.view.keys(p / kKvTile, h), keys.data());
          unpack_values(cache.view.layout, cache.view.values(p / kKvTile, h), values.data());
          for (int64_t i = 0; i < c.head_dim; ++i) {
            const int64_t to = p * row + h * c.head_dim + i, at = p % kKvTile;
            kept_k.data()[to] = keys[static_cast<size_t>(i * kKvTile + at)];
            kept_v.data()[to] = values[static_cast<size_t>(at * c.head_dim + i)];
          }
        }
      }
      for (const auto& [kept, given] : {std::pair{kept_k, k}, std::pair{kept_v, v}}) {
        bool near = true;
        for (int64_t i = 0; i < k.count(); ++i) {
          float largest = std::abs(given.data()[i]);  // bf16: of the number; q8: of its head
          for (int64_t j = i / c.head_dim * c.head_dim;
               type == KvType::kQ8 && j < (i / c.head_dim + 1) * c.head_dim; ++j)
            largest = std::max(largest, std::abs(given.data()[j]));
          const float part = type == KvType::kQ8 ? 1.001f / 254 : 1.0f / 256;
          near = near && std::abs(kept.data()[i] - given.data()[i]) <= largest * part;
        }
        CHECK(near);
      }
      const Reference r = reference(c, q.data(), kept_k.data(), kept_v.data(), q.data(), {0, n});
      // Decoding over q8 takes queries and probabilities as 16 bits.
      const double bound = type == KvType::kQ8 ? 5e-5 : kForward;
      CHECK(distance(got, r.out) < (c.rounded ? rounded_bound(c) : bound));
    }
  }
}

TEST_CASE("what is not finite does not read back as a number from a q8 cache") {
  Context ctx;
  const AttentionConfig c{1, 1, 20, 0.2f, 0};
  for (const float bad : {std::nanf(""), HUGE_VALF}) {
    const Tensor k = random(ctx, {8, 1, 20}, 2), v = random(ctx, {8, 1, 20}, 3);
    v.data()[3 * 20 + 19] = bad;
    Cache cache(ctx, c, k, v, 0, KvType::kQ8);
    cache.append(8);
    const Tensor y = attention_cached(ctx, c, random(ctx, {1, 1, 20}, 1),
                                      std::vector<int64_t>{0, 1}, std::span(&cache.view, 1));
    CHECK(!std::isfinite(y.data()[0]));
  }
}

// The same with forget gates: the difference to `reference` is in the scores and in one gradient.
struct ForgetReference {
  std::vector<double> out, dq, dk, dv, dlog;
};

ForgetReference forget_reference(const AttentionConfig& c, const Tensor& q, const Tensor& k,
                                 const Tensor& v, const Tensor& log_f, const Tensor& up,
                                 const std::vector<int64_t>& starts) {
  const int64_t d = c.head_dim, nq = c.heads * d, nk = c.kv_heads * d;
  const auto zeros = [](const Tensor& t) {
    return std::vector<double>(static_cast<size_t>(t.count()));
  };
  ForgetReference r{zeros(q), zeros(q), zeros(k), zeros(v), zeros(log_f)};
  for (size_t s = 0; s + 1 < starts.size(); ++s) {
    for (int64_t t = starts[s]; t < starts[s + 1]; ++t) {
      const int64_t first = c.window > 0 ? std::max(starts[s], t - c.window + 1) : starts[s];
      for (int64_t h = 0; h < c.heads; ++h) {
        const int64_t at = t * nq + h * d, kv = h / c.group() * d;
        std::vector<double> p, dp;
        double between = 0, most = -HUGE_VAL, total = 0, mean = 0;
        for (int64_t j = t; j >= first; --j) {
          double score = 0, g = 0;
          for (int64_t i = 0; i < d; ++i) {
            score += double{q.data()[at + i]} * k.data()[j * nk + kv + i];
            g += double{up.data()[at + i]} * v.data()[j * nk + kv + i];
          }
          p.push_back(score * c.scale + between);
          dp.push_back(g);
          most = std::max(most, p.back());
          between += log_f.data()[j * c.heads + h];
        }
        for (double& x : p) total += x = std::exp(x - most);
        for (size_t n = 0; n < p.size(); ++n) mean += (p[n] /= total) * dp[n];
        for (int64_t j = t; j >= first; --j) {
          const double x = p[static_cast<size_t>(t - j)],
                       ds = x * (dp[static_cast<size_t>(t - j)] - mean);
          for (int64_t i = 0; i < d; ++i) {
            r.out[at + i] += x * v.data()[j * nk + kv + i];
            r.dv[j * nk + kv + i] += x * up.data()[at + i];
            r.dq[at + i] += ds * c.scale * k.data()[j * nk + kv + i];
            r.dk[j * nk + kv + i] += ds * c.scale * q.data()[at + i];
          }
          for (int64_t n = j + 1; n <= t; ++n) r.dlog[n * c.heads + h] += ds;
        }
      }
    }
  }
  return r;
}

TEST_CASE("forget gates: weak, strong, and a long past that is forgotten altogether") {
  struct Gates {
    double rate;   // of -log f
    bool settles;  // gates of the second half are 1
  };
  for (const Gates& gates : {Gates{0.02, false}, Gates{3, false}, Gates{1e4, true}}) {
    for (const auto& [d, window] :
         {std::pair{24, 0}, std::pair{24, 70}, std::pair{32, 0}, std::pair{32, 70}}) {
      CAPTURE(gates.rate);
      CAPTURE(d);
      CAPTURE(window);
      const AttentionConfig c{4, 2, d, 0.2f, window};
      const std::vector<int64_t> starts{0, 1, 300, 365};
      Context ctx;
      Tape tape;
      Tensor q = random(ctx, {365, 4, d}, 1), k = random(ctx, {365, 2, d}, 2),
             v = random(ctx, {365, 2, d}, 3), log_f = random(ctx, {365, 4}, 5);
      const Tensor up = random(ctx, q.shape(), 4);
      for (int64_t i = 0; i < log_f.count(); ++i) {
        const bool open = gates.settles && i / 4 > 150;
        log_f.data()[i] = open ? 0 : static_cast<float>(-gates.rate * std::abs(log_f.data()[i]));
      }
      for (Tensor* t : {&q, &k, &v, &log_f}) tape.watch(*t);
      Context train = ctx;
      train.tape = &tape;
      const Tensor y = attention(train, c, q, k, v, starts, nullptr, log_f);
      const ForgetReference r = forget_reference(c, q, k, v, log_f, up, starts);
      CHECK(distance(y, r.out) < kForward);
      tape.backward(ctx, y, up);
      CHECK(distance(tape.grad(q), r.dq) < kGradient);
      CHECK(distance(tape.grad(k), r.dk) < kGradient);
      CHECK(distance(tape.grad(v), r.dv) < kGradient);
      CHECK(distance(tape.grad(log_f), r.dlog) < kGradient);
    }
  }
}

TEST_CASE("queries may be a slice of a fused projection") {
  Context ctx;
  const AttentionConfig c{2, 1, 8, 0.3f, 0};
  const std::vector<int64_t> starts{0, 70};
  const Tensor fused = random(ctx, {140, 16}, 1), k = random(ctx, {70, 1, 8}, 2),
               v = random(ctx, {70, 1, 8}, 3);
  const Tensor q = fused.narrow(1, 0, 8);
  Tensor copy = Tensor::empty(ctx, {70, 2, 8});
  for (int64_t i = 0; i < copy.count(); ++i) copy.data()[i] = fused.data()[i / 8 * 16 + i % 8];
  CHECK(same_bits(attention(ctx, c, q, k, v, starts), attention(ctx, c, copy, k, v, starts)));
}

TEST_CASE("a dry run asks for the memory and counts the products of a real one") {
  const AttentionConfig c{4, 2, 32, 0.2f, 0};
  const std::vector<int64_t> starts{0, 100, 165};
  size_t peak[2];
  double flops[2];
  for (int dry : {0, 1}) {
    Context ctx;
    Counters counters;
    ctx.arena = Arena::create(dry != 0 ? Arena::Mode::kDry : Arena::Mode::kReal);
    ctx.counters = &counters;
    Tape tape;
    Tensor q = Tensor::zeros(ctx, {165, 4, 32}), k = Tensor::zeros(ctx, {165, 2, 32}), v = k;
    for (Tensor* t : {&q, &k, &v}) tape.watch(*t);
    Context train = ctx;
    train.tape = &tape;
    const Tensor y = attention(train, c, q, k, v, starts);
    tape.backward(ctx, y);
    peak[dry] = ctx.arena->stats().peak;
    flops[dry] = counters.product_flops;
  }
  CHECK(peak[0] == peak[1]);
  CHECK(flops[0] == flops[1]);
  CHECK(flops[0] == 3.5 * 4 * 4 * 32 * (100 * 101 / 2 + 65 * 66 / 2));
}

}  // namespace braid
