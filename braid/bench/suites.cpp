#include <algorithm>
#include <cstdio>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/bench/harness.h"
#include "braid/core/parallel.h"

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

// What the figures below it were measured on.
void print_machine(const BenchOptions& options) {
  Context ctx;
  ctx.threads = options.threads;
  const Instructions i = probe_instructions(ctx);
  if (options.json) {
    const Json line = Json::object({{"event", "machine"},
                                    {"cpu", cpu_name()},
                                    {"threads", effective_threads(ctx)},
                                    {"instructions", instructions_json(i)}});
    std::puts(line.dump().c_str());
  } else {
    std::puts(format("{}\n{}", cpu_name(), instructions_text(i)).c_str());
  }
}

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
  print_machine(options);
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
