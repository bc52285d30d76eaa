#include "braid/bench/limits.h"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <string_view>

#include "braid/base/clock.h"
#include "braid/base/format.h"
#include "braid/bench/limits_kernel.h"
#include "braid/core/parallel.h"

namespace braid {
namespace {

constexpr int64_t kBufferFloats = int64_t{48} << 20;
constexpr int64_t kMemoryGrain = int64_t{1} << 18;  // 1 MiB: long enough a stream to prefetch
// About half a millisecond a piece, so that a thread that comes late costs little.
constexpr int64_t kPeakRounds = 100000;
constexpr int64_t kPeakPieces = 16;

double best_of(LimitProbe& probe, Limit limit, int readings) {
  double best = 0;
  for (int i = 0; i < readings; ++i) best = std::max(best, probe.measure(limit));
  return best;
}

}  // namespace

const char* limit_name(Limit limit) {
  switch (limit) {
    case Limit::kPeak:
      return "f32_peak";
    case Limit::kRead:
      return "memory_read";
    case Limit::kReadWrite:
      return "memory_read_write";
  }
  return "";
}

const char* limit_unit(Limit limit) { return limit == Limit::kPeak ? "GFLOP/s" : "GB/s"; }

LimitProbe::LimitProbe(const Context& ctx) : ctx_(ctx) {}

double LimitProbe::measure(Limit limit) {
  return limit == Limit::kPeak ? measure_peak() : measure_memory(limit == Limit::kReadWrite);
}

double LimitProbe::measure_peak() {
  std::atomic<double> flops{0};
  const double start = now_seconds();
  parallel_for(ctx_, effective_threads(ctx_) * kPeakPieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float sink[3] = {0.999999f, 1e-6f, 0};
      flops.fetch_add(burn_multiply_adds(kPeakRounds, sink), std::memory_order_relaxed);
    }
  });
  return flops.load() / (now_seconds() - start) * 1e-9;
}

double LimitProbe::measure_memory(bool write) {
  if (!buffer_.defined()) {
    buffer_ = Tensor::empty(ctx_, {kBufferFloats});
    parallel_for(ctx_, kBufferFloats, kMemoryGrain, [&](int64_t begin, int64_t end) {
      std::fill(buffer_.data() + begin, buffer_.data() + end, 1.0f);
    });
  }
  std::atomic<double> sum{0};
  const double start = now_seconds();
  parallel_for(ctx_, kBufferFloats, kMemoryGrain, [&](int64_t begin, int64_t end) {
    if (write) {
      scale_in_place(buffer_.data() + begin, end - begin, 1.0f);
    } else {
      sum.fetch_add(read_all(buffer_.data() + begin, end - begin), std::memory_order_relaxed);
    }
  });
  const double seconds = now_seconds() - start;
  sink_ = sum.load();
  return static_cast<double>(kBufferFloats) * sizeof(float) * (write ? 2 : 1) / seconds * 1e-9;
}

MachineLimits probe_limits(const Context& ctx) {
  LimitProbe probe(ctx);
  MachineLimits m;
  m.threads = effective_threads(ctx);
  m.cpu = cpu_name();
  m.instructions = probe_instructions(ctx);
  m.peak_gflops = best_of(probe, Limit::kPeak, 12);
  m.read_gbs = best_of(probe, Limit::kRead, 12);
  m.read_write_gbs = best_of(probe, Limit::kReadWrite, 12);
  return m;
}

PeakGauge::PeakGauge(const Context& ctx, double seconds)
    : probe_(ctx),
      seconds_(seconds),
      last_(now_seconds()),
      best_(best_of(probe_, Limit::kPeak, 12)) {}

double PeakGauge::best_gflops() {
  if (now_seconds() - last_ >= seconds_) {
    best_ = std::max(best_, probe_.measure(Limit::kPeak));
    last_ = now_seconds();
  }
  return best_;
}

std::string cpu_name() {
  std::string model = "unknown processor";
  std::ifstream info("/proc/cpuinfo");  // has no size, so read_file() would see nothing
  const std::string_view key = "model name\t: ";
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with(key)) continue;
    model = line.substr(key.size());
    break;
  }
  return format("{}, {} threads", model, machine_threads());
}

}  // namespace braid
