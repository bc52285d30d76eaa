#include "braid/bench/verify.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "braid/base/format.h"
#include "braid/stack/settings.h"

namespace braid {
namespace {

ModelSettings settings_of(const std::string& stack, const char* init, uint64_t seed) {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = 32;
  s.heads = 2;
  s.head_dim = 8;
  s.init = parse_named(init, "init");
  s.seed = seed;
  return s;
}

std::vector<VerifyCheck> verified(const ModelSettings& settings,
                                  const VerifyOptions& options = {}) {
  const Context ctx;
  Model model(ctx, settings);
  perturb_small_parameters(model, settings.seed);
  return verify_stack(ctx, model, options);
}

void check_all(const std::vector<VerifyCheck>& checks) {
  for (const VerifyCheck& c : checks) {
    INFO(c.layer, ": ", c.what, ": ", c.error);
    CHECK(c.passed());
    CHECK(c.what.find("jumps") == std::string::npos);
  }
}

int64_t rows_of(const std::vector<VerifyCheck>& checks, const std::string& layer) {
  return std::count_if(checks.begin(), checks.end(),
                       [&](const VerifyCheck& c) { return c.layer == layer; });
}

}  // namespace

// With a step of 1e-5 for all, a choice changed inside it in each of these.
TEST_CASE("verify: a choice that changes within the reference's first step") {
  check_all(verified(settings_of("moba{block=7,top_k=2}", "normal", 1)));
  check_all(verified(settings_of("moba{block=7,top_k=2}", "normal", 2), {.tokens = 200}));
  check_all(
      verified(settings_of("dsa{index_topk=20,index_n_heads=2,index_head_dim=16}", "fan_in", 0)));
}

TEST_CASE("verify: layers that see all of a short sequence are verified with smaller sizes too") {
  const auto moba = verified(settings_of("moba", "fan_in", 0));
  check_all(moba);
  CHECK(rows_of(moba, "moba") > 10);
  CHECK(rows_of(moba, "moba{block=9}") == rows_of(moba, "moba"));
  const auto nsa = verified(settings_of("nsa", "fan_in", 0));
  check_all(nsa);
  CHECK(rows_of(nsa, "nsa{block=32,top_n=4,window=32}") == rows_of(nsa, "nsa"));
  const auto dsa = verified(settings_of("dsa{index_n_heads=2,index_head_dim=16}", "fan_in", 0));
  check_all(dsa);
  CHECK(rows_of(dsa, "dsa{index_topk=20}") == rows_of(dsa, "dsa"));
}

TEST_CASE("verify: sizes that leave something out are enough") {
  const auto checks = verified(settings_of("moba{block=8,top_k=3}", "fan_in", 0));
  check_all(checks);
  for (const VerifyCheck& c : checks) CHECK(c.layer.find('{') == std::string::npos);
}

TEST_CASE("verify: what no size can show is said") {
  std::vector<std::string> untested;
  VerifyOptions options;
  options.tokens = 40;
  options.on_untested = [&](const std::string& what) { untested.push_back(what); };
  check_all(verified(settings_of("nsa{compress=mean,compress_block=512,block=512}", "fan_in", 0),
                     options));
  REQUIRE(untested.size() == 1);
  CHECK(untested[0].find("nsa sees all of 40 tokens") != std::string::npos);
  CHECK(untested[0].find("--tokens") != std::string::npos);
  untested.clear();
  check_all(verified(settings_of("moba{block=8,top_k=3}", "fan_in", 0), options));
  CHECK(untested.empty());
}

}  // namespace braid
