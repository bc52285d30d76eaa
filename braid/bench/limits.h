#pragma once
// What the machine itself can do, measured, so that a speed means something elsewhere (DESIGN 5.8).

#include <string>

#include "braid/bench/instructions.h"
#include "braid/core/tensor.h"

namespace braid {

enum class Limit {
  kPeak,       // f32 multiply-adds from registers, GFLOP/s
  kRead,       // reading memory far beyond the caches, GB/s (1e9 bytes)
  kReadWrite,  // changing it in place: bytes read plus bytes written, GB/s
};
const char* limit_name(Limit limit);  // "f32_peak", "memory_read", "memory_read_write"
const char* limit_unit(Limit limit);  // "GFLOP/s" or "GB/s"

struct MachineLimits {
  double peak_gflops = 0;
  double read_gbs = 0;
  double read_write_gbs = 0;
  int threads = 0;
  std::string cpu;  // model name and core count as the system gives them
  Instructions instructions;
};

// Takes single readings of a limit. Holds a 192 MiB buffer from the first memory reading on.
class LimitProbe {
 public:
  explicit LimitProbe(const Context& ctx);  // ctx outlives the probe
  // One reading of about 8 ms on all threads of the context.
  double measure(Limit limit);

 private:
  double measure_peak();
  double measure_memory(bool write);
  const Context& ctx_;
  Tensor buffer_;
  double sink_ = 0;
};

// Each limit as the best of several readings; under a second and a half. Best, because whatever
// else runs on the machine can only take away.
MachineLimits probe_limits(const Context& ctx);
// The f32 product peak alone, GFLOP/s: 0.1 s at first, then a reading of 8 ms whenever `seconds`
// have gone by, so that a peak taken while others used the machine does not stand for hours. Needs
// no memory.
class PeakGauge {
 public:
  explicit PeakGauge(const Context& ctx, double seconds = 10);  // ctx outlives the gauge
  double best_gflops();                                         // of all readings so far

 private:
  LimitProbe probe_;
  double seconds_, last_, best_;
};

std::string cpu_name();

}  // namespace braid
