#include <algorithm>
#include <cmath>
#include <cstdio>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/shell_word.h"
#include "braid/cli/command.h"
#include "braid/cli/model_flags.h"
#include "braid/cli/optim_flags.h"
#include "braid/cli/output_path.h"
#include "braid/cli/progress.h"
#include "braid/cli/remembered_flags.h"
#include "braid/cli/run_model.h"
#include "braid/compare/compare_report.h"
#include "braid/compare/identity.h"

namespace braid {
namespace {

struct Flags {
  std::vector<std::string> stacks;
  ModelFlags model;
  CommonFlags common;
  OptimFlags optim;
  CompareConfig compare;
  std::string tokenizer;
  std::string match = "params";
  std::string time;
  std::string cost_time = "1m";
  StackCostOptions costs;
};

// A folder that holds a comparison is enough to go on with it.
void fill_from_folder(CLI::App& app, Flags& f) {
  RememberedFlags flags(app, "");
  if (const std::optional<Json> saved = comparison_command(f.compare.out)) flags.restore(*saved);
  f.compare.command = flags.given();
  if (f.stacks.empty()) {
    throw Error(ErrorKind::kUsage,
                format("no stacks given, and {} holds no comparison to go on with", f.compare.out));
  }
  if (f.stacks.size() == 1) {
    throw Error(ErrorKind::kUsage,
                format("one stack alone, {}, is nothing to compare: give a second, or use `braid "
                       "train`",
                       shell_word(f.stacks[0])));
  }
}

void check_flags(Flags& f) {
  CompareConfig& c = f.compare;
  c.match = parse_match(f.match);
  f.optim.apply(c.run);
  if (c.run.data.empty()) {
    throw Error(ErrorKind::kUsage, "no data given: use --data PATH, a file or folder of text");
  }
  if (!f.time.empty()) c.run.budget.seconds = parse_seconds(f.time, "--time");
  Budget& b = c.run.budget;
  if (c.match == MatchKind::kTime) {
    if (b.seconds <= 0 || b.steps > 0 || b.tokens > 0) {
      throw Error(ErrorKind::kUsage,
                  "--match time needs --time, the training time of each run, and neither --steps "
                  "nor --tokens");
    }
    return;
  }
  if (b.seconds > 0) {
    throw Error(ErrorKind::kUsage,
                format("--time goes with --match time, but --match is {}: use --steps or --tokens",
                       f.match));
  }
  if ((b.steps > 0) == (b.tokens > 0)) {
    throw Error(ErrorKind::kUsage, "use one of --steps N and --tokens N, of each run");
  }
  if (b.tokens > 0) {  // whole steps, so that no stack sees a part of one
    const int64_t step = c.run.batch * c.run.seq_len * c.run.accumulate;
    b.steps = (b.tokens + step - 1) / step;
    b.tokens = 0;
  }
}

ModelSettings settings_of(const Flags& f, const std::string& expression) {
  ModelSettings s = f.model.settings(expression);
  const DataTokenizer& tokenizer = f.compare.run.tokenizer;
  if (tokenizer.present() && !f.model.vocab) s.vocab = tokenizer.tokenizer->vocab_size();
  if (!tokenizer.present()) require_bytes(s);
  check_vocabulary(tokenizer, s.vocab);
  return s;
}

std::vector<ModelSettings> settings_of(const Flags& f) {
  std::vector<ModelSettings> all;
  for (size_t i = 0; i < f.stacks.size(); ++i) {
    try {
      all.push_back(settings_of(f, f.stacks[i]));
    } catch (Error& e) {
      throw e.add_context("stack " + stack_label(i));
    }
  }
  return all;
}

std::string matched_line(const CompareConfig& c, size_t i) {
  const ComparedStack& s = c.stacks[i];
  std::string line = format("{}: width {}, {} parameters", s.label, s.settings.width, s.parameters);
  const auto over = [](double value, double first) { return 100 * (value / first - 1); };
  if (i > 0) {
    line += format(" ({:+.2f} % of A's)", over(static_cast<double>(s.parameters),
                                               static_cast<double>(c.stacks[0].parameters)));
  }
  if (s.budget.steps > 0) {
    line += format(", {} step{}", s.budget.steps, s.budget.steps == 1 ? "" : "s");
    if (i > 0) {
      line +=
          format(" ({:+.2f} % of A's FLOPs)", over(training_flops(s), training_flops(c.stacks[0])));
    }
  }
  return line + "  " + s.expression;
}

// Said before anything is written, instead of in the middle of the first round.
void check_memory(const Flags& f) {
  if (f.common.mem.empty()) return;
  const CompareConfig& c = f.compare;
  std::vector<ModelSettings> runs;
  for (const ComparedStack& s : c.stacks)
    runs.insert(runs.end(), static_cast<size_t>(c.seeds), s.settings);
  f.common.require_memory(training_parts(training_need(runs, step_options(c.run))),
                          format("{} runs in turns, all in memory, with steps of {} x {} tokens,",
                                 runs.size(), c.run.batch, c.run.seq_len),
                          "lower --seeds, --batch or --seq-len, or use --recompute");
}

void say_if_warm_up(const CompareConfig& c, ProgressLine& line) {
  for (const ComparedStack& s : c.stacks) {
    if (s.budget.steps == 0 || s.budget.steps > c.run.schedule.warmup_steps) continue;
    line.message(
        format("{} has only {} steps and the first {} are warm-up (--warmup): it will "
               "hardly be trained",
               s.label, s.budget.steps, c.run.schedule.warmup_steps));
  }
}

void print(const Json& j) {
  std::puts(j.dump().c_str());
  std::fflush(stdout);
}

Json matched_json(const ComparedStack& s) {
  return Json::object({{"event", "matched"},
                       {"label", s.label},
                       {"stack", s.expression},
                       {"width", s.settings.width},
                       {"parameters", s.parameters},
                       {"steps", s.budget.steps},
                       {"seconds", s.budget.seconds}});
}

CompareWatcher watcher_of(const Flags& f, ProgressLine& line) {
  CompareWatcher w;
  w.should_stop = interrupted;
  w.on_message = [&line](const std::string& m) { line.message(m); };
  const std::vector<ComparedStack>& stacks = f.compare.stacks;
  w.on_step = [&](const CompareProgress& p, const RunProgress& r) {
    line.show(format("round {}/{}  {} seed {}  step {}  bpb {:.3f}  {} tok/s  {:.0f}% done  ETA {}",
                     p.round, p.rounds, stacks[p.stack].label, p.seed, r.step, r.smooth_bpb,
                     format_count(r.tokens_per_second), 100 * p.done,
                     std::isfinite(p.eta) ? format_seconds(p.eta) : "?"));
  };
  w.on_evaluation = [&f](size_t stack, uint64_t seed, const RunProgress& r, const Evaluation& e) {
    if (!f.common.json) return;
    print(Json::object({{"event", "evaluation"},
                        {"label", f.compare.stacks[stack].label},
                        {"seed", seed},
                        {"step", r.step},
                        {"tokens", r.tokens},
                        {"seconds", r.seconds},
                        {"bpb", e.bits_per_byte()}}));
  };
  return w;
}

int stopped(const Flags& f) {
  if (f.common.json) print(Json::object({{"event", "interrupted"}, {"out", f.compare.out}}));
  std::fprintf(stderr, "interrupted, saved in %s; braid compare --out %s goes on\n",
               f.compare.out.c_str(), shell_word(f.compare.out).c_str());
  return static_cast<int>(ErrorKind::kInterrupted);
}

bool measure_costs(const Context& ctx, Flags& f, ProgressLine& line, StackCosts& costs) {
  f.costs.lengths.clear();
  f.costs.layers = false;
  f.costs.seconds = parse_seconds(f.cost_time, "--cost-time");
  std::vector<ModelSettings> stacks;
  for (const ComparedStack& s : f.compare.stacks) stacks.push_back(s.settings);
  try {
    costs = measure_stacks(
        ctx, stacks, f.costs,
        [&](const CostProgress& p) {
          line.show(format("{}  ETA {}", p.what, format_seconds(p.eta)));
        },
        interrupted);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kInterrupted) throw;
    return false;
  }
  return !costs.interrupted;
}

int run(CLI::App& app, Flags& f) {
  require_output_folder("--out", f.compare.out);
  fill_from_folder(app, f);
  check_flags(f);
  CompareConfig& c = f.compare;
  if (!f.tokenizer.empty()) c.run.tokenizer = load_data_tokenizer(f.tokenizer);
  c.first_seed = f.model.seed.value_or(0);
  c.stacks = match_stacks(settings_of(f), c.match, c.run);
  check_memory(f);
  const Context ctx = f.common.context();
  watch_interrupt();
  ProgressLine line;
  for (size_t i = 0; i < c.stacks.size(); ++i) {
    line.message(matched_line(c, i));
    if (f.common.json) print(matched_json(c.stacks[i]));
  }
  say_if_warm_up(c, line);
  Comparison result;
  if (!train_compared(ctx, c, watcher_of(f, line), result)) {
    line.finish();
    return stopped(f);
  }
  if (!f.costs.contexts.empty() && !measure_costs(ctx, f, line, result.costs)) {
    line.finish();
    return stopped(f);
  }
  line.finish();
  write_compare_report(result);
  if (f.common.json) {
    for (size_t i = 0; i < c.stacks.size(); ++i) {
      Json event = Json::object({{"event", "stack"}});
      const Json values = stack_result_json(result, i);
      for (const Json::Member& m : values.members()) event.set(m.key, m.value);
      print(event);
    }
    print(Json::object({{"event", "done"}, {"out", c.out}}));
  } else {
    std::fputs(compare_table(result).c_str(), stdout);
  }
  std::fprintf(stderr, "saved %s and %s\n", join_path(c.out, "compare.json").c_str(),
               join_path(c.out, "compare.html").c_str());
  return 0;
}

void add_flags(CLI::App& app, Flags& f) {
  CompareConfig& c = f.compare;
  const auto positive = CLI::Range(int64_t{1}, int64_t{1} << 40);
  app.add_option("stacks", f.stacks,
                 "Stack expressions, each quoted; the first is the reference "
                 "(a comparison that goes on knows its own)");
  app.add_option("--data", c.run.data, "Text: a file, a folder, .gz, .zst, .dz or .jsonl");
  add_tokenizer_flag(app, f.tokenizer);
  app.add_flag("--data-binary", c.run.data_binary, "Accept files that are not text");
  app.add_option("--out", c.out, "The comparison's folder; resumes when it holds this one")
      ->required();
  app.add_option("--match", f.match,
                 "What is made equal: params (by the width of the later stacks), flops (by their "
                 "steps), time, or none")
      ->capture_default_str();
  app.add_option("--seeds", c.seeds, "Runs of each stack, from --seed on; intervals need 3")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1000}));
  app.add_option("--steps", c.run.budget.steps, "Optimizer steps of a run (of the first stack's)")
      ->check(positive)
      ->group("Budget");
  app.add_option("--tokens", c.run.budget.tokens, "The same in tokens, up to a whole step")
      ->check(positive)
      ->group("Budget");
  app.add_option("--time", f.time, "Training time of a run, e.g. 180s or 2h (--match time)")
      ->group("Budget");
  add_step_flags(app, c.run);
  app.add_option("--evals", c.points, "Points of each learning curve")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{100000}));
  app.add_option("--eval-tokens", c.run.eval_tokens,
                 "Held-out tokens of each point; the result is of all of them")
      ->capture_default_str()
      ->check(positive);
  app.add_option("--turn", c.turn, "Steps of a run before the next one's turn")
      ->capture_default_str()
      ->check(positive);
  app.add_option("--save-every", c.save_every, "Rounds between checkpoints (0 = every minute)")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  app.add_option("--contexts", f.costs.contexts, "Tokens before a decoded one, as 1024,131072")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  app.add_option("--cost-time", f.cost_time, "Time to measure decoding, at most")
      ->capture_default_str();
  f.optim.add(app, c.run);
  f.model.add_settings(app);
  f.common.add(app);
  app.footer(
      "Example: braid compare \"2 x (3 x (kda, swiglu), gqa, swiglu)\" \"8 x (gqa, swiglu)\" "
      "--width 192 --data book.txt --steps 400 --out versus");
}

}  // namespace

std::function<int()> setup_compare(CLI::App& app) {
  auto f = std::make_shared<Flags>();
  f->compare.run.schedule.warmup_steps = 20;
  add_flags(app, *f);
  return [f, &app] { return run(app, *f); };
}

}  // namespace braid
