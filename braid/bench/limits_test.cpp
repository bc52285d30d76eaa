#include "braid/bench/limits.h"

#include <doctest/doctest.h>

#include <vector>

#include "braid/bench/limits_kernel.h"

namespace braid {
namespace {

TEST_CASE("the burnt chains compute what they say") {
  // c <- a c + b from c0 = 0 .. 11 + lane, summed over all chains and lanes.
  float sink[3] = {0.5f, 1.0f, 0};
  const double flops = burn_multiply_adds(2, sink);
  const double lanes = flops / (2 * 12 * 2);
  const double start = lanes * 12 * 5.5 + 12 * lanes * (lanes - 1) / 2;
  CHECK(sink[2] == doctest::Approx(start * 0.25 + 12 * lanes * 1.5));
}

TEST_CASE("the memory loops touch every element") {
  for (int64_t n : {1, 15, 16, 63, 64, 100, 1000}) {
    std::vector<float> x(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(i % 7);
    double sum = 0;
    for (float v : x) sum += v;
    CHECK(read_all(x.data(), n) == doctest::Approx(sum));
    scale_in_place(x.data(), n, 3.0f);
    CHECK(read_all(x.data(), n) == doctest::Approx(3 * sum));
  }
}

TEST_CASE("a peak is the best reading so far") {
  const Context ctx;
  PeakGauge at_once(ctx, 0), never(ctx, 1e9);
  const double first = never.best_gflops();
  CHECK(first > 1);
  double best = 0;
  for (int i = 0; i < 20; ++i) {
    CHECK(at_once.best_gflops() >= best);
    best = at_once.best_gflops();
    CHECK(never.best_gflops() == first);
  }
}

TEST_CASE("the machine has limits") {
  Context ctx;
  const MachineLimits m = probe_limits(ctx);
  CHECK(m.peak_gflops > 1);
  CHECK(m.read_gbs > 0.1);
  CHECK(m.read_write_gbs > 0.1);
  CHECK(m.threads >= 1);
  CHECK(m.cpu.find("threads") != std::string::npos);
  MESSAGE(m.cpu, " ", instructions_text(m.instructions), ": ", m.peak_gflops, " GFLOP/s, reads ",
          m.read_gbs, " GB/s, changes ", m.read_write_gbs, " GB/s");
}

}  // namespace
}  // namespace braid
