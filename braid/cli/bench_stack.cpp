#include "braid/cli/bench_stack.h"

#include <algorithm>
#include <cstdio>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/bench/stack_report.h"
#include "braid/cli/model_flags.h"
#include "braid/cli/output_path.h"
#include "braid/cli/progress.h"

namespace braid {
namespace {

struct Flags {
  std::vector<std::string> stacks;
  ModelFlags model;
  CommonFlags common;
  StackCostOptions options;
  std::string time = "2m";
  std::string html;
  bool no_layers = false;
};

int run(Flags& f) {
  f.options.seconds = parse_seconds(f.time, "--time");
  f.options.layers = !f.no_layers;
  require_output_file("--html", f.html);
  std::vector<ModelSettings> stacks;
  for (const std::string& s : f.stacks) stacks.push_back(f.model.settings(s));
  const Context ctx = f.common.context();
  watch_interrupt();
  ProgressLine line;
  const StackCosts costs = measure_stacks(
      ctx, stacks, f.options,
      [&](const CostProgress& p) {
        line.show(format("{}  ETA {}", p.what, format_seconds(p.eta)));
      },
      interrupted);
  line.finish();
  if (f.common.json) {
    for (const Json& j : stack_cost_json(costs)) std::puts(j.dump().c_str());
  } else {
    std::fputs(stack_cost_table(costs).c_str(), stdout);
  }
  if (!f.html.empty()) {
    write_file(f.html, stack_cost_html(costs));
    std::fprintf(stderr, "saved %s\n", f.html.c_str());
  }
  if (!costs.interrupted) return 0;
  std::fprintf(stderr, "interrupted after %d of %d rounds\n", costs.rounds, f.options.rounds);
  return static_cast<int>(ErrorKind::kInterrupted);
}

}  // namespace

std::function<int()> setup_bench_stack(CLI::App& app) {
  auto f = std::make_shared<Flags>();
  app.add_option("stacks", f->stacks, "Stack expressions, each quoted")->required();
  app.add_option("--lengths", f->options.lengths, "Tokens of forward and backward, as 128,512")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  app.add_option("--contexts", f->options.contexts, "Tokens before a decoded one, as 1024,131072")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  app.add_option("--rounds", f->options.rounds, "Times that everything is measured, at most")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_option("--time", f->time,
                 "Time for all of it; where it is short there are fewer rounds, then the longest "
                 "lengths are left out and named")
      ->capture_default_str();
  app.add_option("--html", f->html, "Page with plots to write, needs nothing but itself");
  app.add_flag("--no-layers", f->no_layers, "Only whole stacks, not each layer alone");
  f->model.add_settings(app);
  f->common.add(app);
  app.footer(
      "Example: braid bench stack \"2 x (3 x (kda, swiglu), gqa, swiglu)\" \"8 x (gqa, swiglu)\" "
      "--width 256 --html costs.html");
  return [f] { return run(*f); };
}

}  // namespace braid
