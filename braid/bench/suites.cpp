#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/bench/harness.h"

namespace braid {

#define BRAID_BENCH(suite, name) void bench_##name(Bench& bench);
#include "braid/bench/list.inc"
#undef BRAID_BENCH

namespace {

struct Entry {
  const char* suite;
  void (*run)(Bench& bench);
};

constexpr Entry kEntries[] = {
#define BRAID_BENCH(suite, name) {#suite, bench_##name},
#include "braid/bench/list.inc"
#undef BRAID_BENCH
};

std::string joined(std::span<const std::string> words) {
  std::string text;
  for (const std::string& w : words) text += (text.empty() ? "" : ", ") + w;
  return text;
}

}  // namespace

std::vector<std::string> bench_suites() {
  std::vector<std::string> names;
  for (const Entry& e : kEntries) {
    if (std::find(names.begin(), names.end(), e.suite) == names.end()) names.emplace_back(e.suite);
  }
  return names;
}

int run_bench(std::span<const std::string> suites, const BenchOptions& options) {
  const std::vector<std::string> known = bench_suites();
  for (const std::string& s : suites) {
    if (std::find(known.begin(), known.end(), s) == known.end()) {
      throw Error(ErrorKind::kUsage,
                  format("no benchmark suite \"{}\"; there are: {}", s, joined(known)));
    }
  }
  const std::span<const std::string> wanted = suites.empty() ? known : suites;
  int measured = 0;
  for (const std::string& s : wanted) {
    Bench bench(options, s);
    for (const Entry& e : kEntries) {
      if (s == e.suite) e.run(bench);
    }
    measured += bench.measured();
  }
  if (measured == 0) {
    throw Error(ErrorKind::kUsage, format("no benchmark of {} has a name that contains \"{}\"",
                                          joined(wanted), options.filter));
  }
  return 0;
}

}  // namespace braid
