#include "braid/bench/harness.h"

#include <doctest/doctest.h>

#include "braid/base/error.h"
#include "braid/bench/limits_kernel.h"

namespace braid {
namespace {

BenchOptions quick(std::string filter = "") {
  BenchOptions o;
  o.json = true;
  o.filter = std::move(filter);
  o.min_seconds = 0.01;
  return o;
}

TEST_CASE("rates are work over time and shares are near one for the peak loop itself") {
  Bench bench(quick(), "test");
  bench.context().threads = 1;
  float sink[3] = {0.999999f, 1e-6f, 0};
  const auto burn = [&] { burn_multiply_adds(200000, sink); };
  const double flops = burn_multiply_adds(200000, sink);
  const BenchResult whole = bench.measure(
      {.name = "whole", .shape = "", .work = flops, .limit = Limit::kPeak, .run = burn});
  const BenchResult half = bench.measure(
      {.name = "half", .shape = "", .work = flops / 2, .limit = Limit::kPeak, .run = burn});
  CHECK(whole.samples >= 5);
  // A busy test machine shifts any single time, so only what a wrong unit would break is bounded.
  CHECK(whole.rate == doctest::Approx(flops / whole.ms * 1e-6));
  CHECK(half.rate == doctest::Approx(flops / half.ms * 0.5e-6));
  CHECK(whole.share > 0.05);
  CHECK(whole.share < 20);
}

TEST_CASE("a rival stands in for the limit") {
  Bench bench(quick(), "test");
  float sink[3] = {0.999999f, 1e-6f, 0};
  const BenchResult r = bench.measure({.name = "twice",
                                       .shape = "",
                                       .work = 1e6,
                                       .limit = Limit::kPeak,
                                       .run = [&] { burn_multiply_adds(400000, sink); },
                                       .rival_name = "once",
                                       .rival = [&] { burn_multiply_adds(200000, sink); }});
  CHECK(r.share > 0.025);
  CHECK(r.share < 10);
}

TEST_CASE("unwanted cases do not run") {
  Bench bench(quick("gdn"), "test");
  bool ran = false;
  bench.measure(
      {.name = "recurrence/kda/forward", .shape = "", .work = 1, .limit = Limit::kPeak, .run = [&] {
         ran = true;
       }});
  CHECK_FALSE(ran);
  CHECK(bench.measured() == 0);
  CHECK(bench.wants("recurrence/gdn/step"));
}

TEST_CASE("unknown suites and filters are usage errors that say what there is") {
  const std::string none[] = {"kernel"};
  CHECK_THROWS_WITH_AS(run_bench(none, quick()), doctest::Contains("kernels"), Error);
  const std::string kernels[] = {"kernels"};
  CHECK_THROWS_WITH_AS(run_bench(kernels, quick("no such name")), doctest::Contains("no such name"),
                       Error);
}

}  // namespace
}  // namespace braid
