#include "braid/infer/divergence.h"

#include <doctest/doctest.h>

#include <cmath>

namespace braid {
namespace {

ModelSettings tiny(int64_t vocab, uint64_t seed) {
  ModelSettings s;
  s.stack = parse_stack("gqa, swiglu", known_layers());
  s.width = 32;
  s.vocab = vocab;
  s.tie_embeddings = false;  // tied, random models find the token itself likeliest
  s.seed = seed;
  return s;
}

}  // namespace

TEST_CASE("divergence of two rows is that of their probabilities") {
  const float p[] = {std::log(0.5f), std::log(0.25f), std::log(0.25f)};
  const float q[] = {5 + std::log(0.25f), 5 + std::log(0.5f), 5 + std::log(0.25f)};  // shifted
  Divergence d;
  compare_rows(q, p, 3, d);
  CHECK(d.kl == doctest::Approx(0.5 * std::log(2.0) - 0.25 * std::log(2.0)));
  CHECK(d.top1 == 0);
  compare_rows(p, p, 3, d);
  CHECK(d.positions == 2);
  CHECK(d.top1 == 1);
  CHECK(d.worst_kl == doctest::Approx(0.25 * std::log(2.0)));
  const float bad[] = {NAN, 0, 0};
  compare_rows(bad, p, 3, d);
  CHECK(std::isnan(d.kl));
  CHECK(std::isnan(d.worst_kl));
}

TEST_CASE("a model does not diverge from itself; others do, at every context") {
  Context ctx;
  Model a(ctx, tiny(50, 1)), b(ctx, tiny(50, 2)), c(ctx, tiny(51, 1));
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < 700; ++i) ids.push_back(static_cast<int32_t>(i * i % 50));
  const std::vector<int64_t> contexts = {100, 200, 690};
  for (const Divergence& d : divergence(ctx, a, a, ids, contexts)) {
    CHECK(d.kl == 0);
    CHECK(d.top1 == 1);
  }
  const std::vector<Divergence> other = divergence(ctx, a, b, ids, contexts);
  REQUIRE(other.size() == 3);
  CHECK(other[0].positions == 100);
  CHECK(other[1].positions == 100);  // the first 100 belong to the context before
  CHECK(other[2].positions == 256);
  for (const Divergence& d : other) {
    CHECK(d.kl > 1e-4);
    CHECK(d.worst_kl >= d.kl);
    CHECK(d.top1 < 1);
  }
  CHECK_THROWS_AS(divergence(ctx, a, c, ids, contexts), Error);
}

}  // namespace braid
