#include "braid/bench/harness.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "braid/base/clock.h"
#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/base/stats.h"
#include "braid/core/parallel.h"

namespace braid {
namespace {

// A sample is as many runs as fill this, so that the clock and the start of threads do not count.
constexpr double kSampleSeconds = 5e-3;
constexpr double kShotSeconds = 8e-3;  // of LimitProbe::measure
constexpr double kLongRunSeconds = 2;

double seconds_of(FunctionRef<void()> run, int times) {
  const double start = now_seconds();
  for (int i = 0; i < times; ++i) run();
  return (now_seconds() - start) / times;
}

std::string milliseconds(double ms) {
  return ms >= 100 ? format("{:.0f}", ms) : ms >= 1 ? format("{:.2f}", ms) : format("{:.4f}", ms);
}

}  // namespace

Bench::Bench(const BenchOptions& options, std::string suite)
    : options_(options), suite_(std::move(suite)), probe_(ctx_) {
  ctx_.threads = options.threads;
  give_threads_to_libraries(ctx_);
}

bool Bench::wants(std::string_view name) const {
  return name.find(options_.filter) != std::string_view::npos;
}

double Bench::product_flops(FunctionRef<void()> run) {
  Counters counters;
  ctx_.counters = &counters;
  run();
  ctx_.counters = nullptr;
  return counters.product_flops;
}

BenchResult Bench::measure(const BenchCase& c) {
  if (!wants(c.name)) return {};
  ++measured_;
  // The first run makes kernels and faults pages in; where that is little beside the run itself,
  // it also tells how long one takes.
  double once = seconds_of(c.run, 1);
  if (once < kLongRunSeconds) once = seconds_of(c.run, 1);
  const int runs = static_cast<int>(std::clamp(std::ceil(kSampleSeconds / once), 1.0, 1e5));
  const int samples = static_cast<int>(
      std::clamp(options_.min_seconds / (once * runs), once < kLongRunSeconds ? 5.0 : 3.0, 200.0));

  // As long as half a sample, so that both see the same share of a busy machine.
  const int shots = static_cast<int>(std::clamp(once * runs / 2 / kShotSeconds, 1.0, 25.0));
  const auto limit_now = [&] {
    if (c.rival_name) return c.work / seconds_of(c.rival, runs) * 1e-9;
    double seconds_per_unit = 0;
    for (int i = 0; i < shots; ++i) seconds_per_unit += 1 / probe_.measure(c.limit);
    return shots / seconds_per_unit;
  };
  limit_now();

  std::vector<double> seconds, limits, shares;
  double before = limit_now();
  for (int i = 0; i < samples; ++i) {
    seconds.push_back(seconds_of(c.run, runs));
    const double after = limit_now();
    limits.push_back((before + after) / 2);
    shares.push_back(c.work / seconds.back() * 1e-9 / limits.back());
    before = after;
  }
  BenchResult r;
  r.ms = median(seconds) * 1e3;
  r.rate = c.work / r.ms * 1e-6;
  r.limit = median(limits);
  r.share = median(shares);
  r.samples = samples;
  print(c, r);
  return r;
}

void Bench::print(const BenchCase& c, const BenchResult& r) {
  const bool flops = c.limit == Limit::kPeak;
  const std::string limit = c.rival_name ? c.rival_name : limit_name(c.limit);
  if (options_.json) {
    Json line = Json::object({{"name", c.name}, {"shape", c.shape}, {"ms", r.ms}});
    line.set(flops ? "gflops" : "gbs", r.rate);
    line.set("limit", Json::object({{"name", limit}, {"value", r.limit}}));
    line.set("share", r.share);
    line.set("suite", suite_);
    line.set("samples", r.samples);
    line.set("threads", effective_threads(ctx_));
    std::puts(line.dump().c_str());
  } else {
    if (measured_ == 1) {
      std::puts(format("{}\n{:<26} {:>10} {:>16}  {:>6}  {:<17} {:>16}  {}", suite_, "name", "ms",
                       "rate", "share", "of the limit", "beside it", "shape")
                    .c_str());
    }
    std::puts(format("{:<26} {:>10} {:>8.1f} {:<7}  {:>5.1f}%  {:<17} {:>8.1f} {:<7}  {}", c.name,
                     milliseconds(r.ms), r.rate, limit_unit(c.limit), r.share * 100, limit, r.limit,
                     limit_unit(c.limit), c.shape)
                  .c_str());
  }
  std::fflush(stdout);
}

}  // namespace braid
