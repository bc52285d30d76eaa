#include "braid/bench/harness.h"
#include "braid/cli/bench_stack.h"
#include "braid/cli/command.h"

namespace braid {

std::function<int()> setup_bench(CLI::App& app) {
  struct Flags {
    std::vector<std::string> suites;
    BenchOptions options;
  };
  auto f = std::make_shared<Flags>();
  app.add_option("suite", f->suites, "kernels, train, decode or infer (default: all)");
  app.add_flag("--json", f->options.json,
               "One JSON object a line: the machine and its instructions, then of each case name, "
               "shape, ms, gflops or gbs, limit, share");
  app.add_option("--filter", f->options.filter, "Only benchmarks whose name contains this");
  app.add_option("--min-time", f->options.min_seconds, "Seconds measured per case")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 3600.0));
  app.add_option("-t,--threads", f->options.threads, "Threads (0 = all cores)")
      ->capture_default_str()
      ->check(CLI::Range(0, 1024));
  CLI::App* stack =
      app.add_subcommand("stack", "Cost of stack expressions against length, and where they cross");
  const std::function<int()> stacks = setup_bench_stack(*stack);
  app.footer(
      "Example: braid bench kernels --filter recurrence/kda\n"
      "Example: braid bench stack \"8 x (gdn, swiglu)\" \"8 x (gqa, swiglu)\" --html costs.html");
  return
      [f, stack, stacks] { return stack->parsed() ? stacks() : run_bench(f->suites, f->options); };
}

}  // namespace braid
