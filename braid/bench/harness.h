#pragma once
// Benchmarks that report a speed together with what bounds it on this machine at this moment.
//
// A benchmark is a function `void bench_foo(Bench&)` in its own file and one line in list.inc. It
// asks wants() before it sets anything up and calls measure() once per case.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/function_ref.h"
#include "braid/bench/limits.h"
#include "braid/core/context.h"

namespace braid {

struct BenchOptions {
  bool json = false;         // one object a line in place of a table
  std::string filter;        // only names that contain this
  double min_seconds = 0.5;  // of measured runs for each case, if it does not take longer anyway
  int threads = 0;           // 0 = all cores
};

// One case. Its rate is work / time, in GFLOP/s when the limit is the product peak and in GB/s
// otherwise; its share is rate / limit, the limit measured right before and after each sample.
struct BenchCase {
  std::string name;   // "recurrence/gdn/forward"
  std::string shape;  // "T=1024 H=32 K=128 V=128"
  double work = 0;    // FLOPs or bytes of one run
  Limit limit = Limit::kPeak;
  FunctionRef<void()> run;
  // Another way to do the same work that stands in for the machine's limit; null = none.
  const char* rival_name = nullptr;
  FunctionRef<void()> rival = no_rival;

  static constexpr auto no_rival = [] {};
};

struct BenchResult {
  double ms = 0;     // median of one run
  double rate = 0;   // GFLOP/s or GB/s at the median time
  double limit = 0;  // median, same unit
  double share = 0;  // median of rate / limit, sample by sample
  int samples = 0;
};

class Bench {
 public:
  Bench(const BenchOptions& options, std::string suite);
  Context& context() { return ctx_; }
  bool wants(std::string_view name) const;
  BenchResult measure(const BenchCase& c);  // and prints it; does nothing when the name is unwanted
  // Products of one run, as the ops count them.
  double product_flops(FunctionRef<void()> run);
  int measured() const { return measured_; }

 private:
  void print(const BenchCase& c, const BenchResult& r);
  BenchOptions options_;
  std::string suite_;
  Context ctx_;
  LimitProbe probe_;
  int measured_ = 0;
};

// Names of the suites in list.inc: "kernels", "train", "decode".
std::vector<std::string> bench_suites();

// Runs suites in the order given, all of them when none is; results go to stdout. Returns the
// process exit code. Throws Error(kUsage) for an unknown suite and a filter that nothing matches.
int run_bench(std::span<const std::string> suites, const BenchOptions& options);

}  // namespace braid
