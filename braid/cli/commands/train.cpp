#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/bench/limits.h"
#include "braid/cli/command.h"
#include "braid/cli/model_flags.h"
#include "braid/cli/progress.h"
#include "braid/infer/generate.h"
#include "braid/train/run.h"

namespace braid {
namespace {

struct Flags {
  ModelFlags model;
  CommonFlags common;
  RunConfig run;
  std::string time;
  std::string schedule = "wsd";
  std::string optimizer = "muon";
  std::string sample_prompt = "The ";
  int64_t sample_tokens = 80;
  bool json = false;
};

std::string progress_line(const RunConfig& c, const RunProgress& p, double peak_gflops) {
  const double done = c.budget.progress(p.step, p.tokens, p.seconds);
  const double eta = done > 0 ? p.seconds * (1 / done - 1) : 0;
  const std::string steps =
      c.budget.steps > 0 ? format("{}/{}", p.step, c.budget.steps) : format("{}", p.step);
  return format("step {}  loss {:.3f}  bpb {:.3f}  {} tok/s  {:.0f}% of f32 peak  {:.0f}%  ETA {}",
                steps, p.smooth_loss, p.smooth_loss / std::log(2.0),
                format_count(p.tokens_per_second), 100 * p.gflops / peak_gflops,
                100 * std::min(1.0, done), format_seconds(eta));
}

std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  return text;
}

std::string write_sample(const Context& ctx, Model& model, const Flags& f) {
  if (model.settings().vocab != 256) return {};
  GenerateConfig g;
  g.max_tokens = f.sample_tokens;
  g.sampling.temperature = 0.8;
  g.sampling.top_p = 0.95;
  g.sampling.seed = model.settings().seed;
  SequenceState seq = model.new_sequence(ctx);
  const GenerateResult r = generate(ctx, model, seq, byte_tokens(f.sample_prompt), g,
                                    [](std::string_view) { return true; });
  return f.sample_prompt + r.text;
}

Json step_json(const RunProgress& p, double peak_gflops) {
  return Json::object({{"event", "step"},
                       {"step", p.step},
                       {"loss", p.loss},
                       {"bpb", p.loss / std::log(2.0)},
                       {"tokens_per_second", p.tokens_per_second},
                       {"peak_share", p.gflops / peak_gflops},
                       {"grad_norm", p.grad_norm}});
}

// An existing run needs no flags but its folder; where both are given they must agree
// (train/run.cpp).
void fill_from_run(Flags& f) {
  const std::string saved = join_path(f.run.out, "latest/model.toml");
  if (!f.model.any() && path_exists(saved)) f.model.model = saved;
  f.run.model = f.model.settings();
}

void check_flags(Flags& f) {
  if (!f.time.empty()) f.run.budget.seconds = parse_seconds(f.time, "--time");
  const Budget& b = f.run.budget;
  if (b.steps <= 0 && b.tokens <= 0 && b.seconds <= 0) {
    throw Error(ErrorKind::kUsage, "no budget given: use --steps N, --tokens N or --time 180s");
  }
  f.run.schedule.kind = parse_schedule(f.schedule);
  check_schedule(f.run.schedule);
  if (f.optimizer != "muon" && f.optimizer != "adamw") {
    throw Error(ErrorKind::kUsage,
                format("--optimizer is \"{}\"; it must be muon or adamw", f.optimizer));
  }
  f.run.optim.use_muon = f.optimizer == "muon";
}

int run(Flags& f) {
  fill_from_run(f);
  check_flags(f);
  f.json = f.common.json;
  const Context ctx = f.common.context();
  make_folders(f.run.out);
  const double peak = probe_peak_gflops(ctx);
  watch_interrupt();
  ProgressLine line;
  const auto print = [](const Json& j) {
    std::puts(j.dump().c_str());
    std::fflush(stdout);
  };
  RunWatcher w;
  w.should_stop = interrupted;
  w.on_message = [&](const std::string& m) { line.message(m); };
  w.on_step = [&](const RunProgress& p) {
    line.show(progress_line(f.run, p, peak));
    if (f.json) print(step_json(p, peak));
  };
  w.on_evaluation = [&](const RunProgress& p, const Evaluation& e) {
    line.message(format("step {}: validation {:.4f} bits per byte over {} bytes", p.step,
                        e.bits_per_target(), e.targets));
    if (f.json)
      print(
          Json::object({{"event", "validation"}, {"step", p.step}, {"bpb", e.bits_per_target()}}));
  };
  w.on_sample = [&](Model& model, const RunProgress& p) {
    const std::string text = write_sample(ctx, model, f);
    if (!text.empty()) line.message("  sample: " + one_line(text));
    if (f.json) print(Json::object({{"event", "sample"}, {"step", p.step}, {"text", text}}));
  };
  const RunSummary s = run_training(ctx, f.run, w);
  line.finish();
  if (f.json) {
    print(Json::object({{"event", s.interrupted ? "interrupted" : "done"},
                        {"step", s.last.step},
                        {"tokens", s.last.tokens},
                        {"seconds", s.last.seconds},
                        {"loss", s.last.smooth_loss},
                        {"validation_bpb", s.validation.bits_per_target()},
                        {"out", f.run.out}}));
  }
  if (s.interrupted) {
    std::fprintf(stderr, "interrupted at step %zd, saved in %s; the same command resumes\n",
                 static_cast<ssize_t>(s.last.step), f.run.out.c_str());
    return static_cast<int>(ErrorKind::kInterrupted);
  }
  return 0;
}

void add_flags(CLI::App& app, Flags& f) {
  const auto positive = CLI::Range(int64_t{1}, int64_t{1} << 40);
  const auto count = CLI::Range(int64_t{0}, int64_t{1} << 60);
  app.add_option("--data", f.run.data, "Text: a file, a folder, .gz, .zst, .dz or .jsonl")
      ->required();
  app.add_flag("--data-binary", f.run.data_binary, "Accept files that are not text");
  app.add_option("--out", f.run.out, "The run's folder; resumes when it holds a run")->required();
  f.model.add(app);
  app.add_option("--steps", f.run.budget.steps, "Stop after this many optimizer steps")
      ->check(count)
      ->group("Budget");
  app.add_option("--tokens", f.run.budget.tokens, "Stop after this many tokens")
      ->check(count)
      ->group("Budget");
  app.add_option("--time", f.time, "Stop after this much training time, e.g. 180s or 2h")
      ->group("Budget");
  app.add_option("--batch", f.run.batch, "Sequences in a micro-batch")
      ->capture_default_str()
      ->check(positive);
  app.add_option("--seq-len", f.run.seq_len, "Tokens of each")
      ->capture_default_str()
      ->check(positive);
  app.add_option("--accumulate", f.run.accumulate, "Micro-batches a step")
      ->capture_default_str()
      ->check(positive);
  app.add_flag("--recompute", f.run.recompute,
               "Keep only layer inputs, recompute the rest in backward");
  app.add_option("--optimizer", f.optimizer, "muon (AdamW for all but matrices) or adamw")
      ->capture_default_str();
  app.add_option("--lr", f.run.optim.lr, "Peak learning rate")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--embedding-lr", f.run.optim.embedding_lr_ratio,
                 "Its ratio for embedding and head")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--weight-decay", f.run.optim.weight_decay, "Of matrices")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--clip", f.run.optim.clip_norm, "Largest gradient norm; 0 is off")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--guard", f.run.guard.factor,
                 "Leave out steps whose gradient norm is this many times the median; 0 is off")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--schedule", f.schedule, "constant, cosine or wsd")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--warmup", f.run.schedule.warmup_steps, "Steps of linear warm-up")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--decay-fraction", f.run.schedule.decay_fraction,
                 "Share of the run in which wsd decays")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--min-lr", f.run.schedule.min_ratio, "Final learning rate as a share of the peak")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--save-every", f.run.save_every, "Steps between checkpoints (0 = every minute)")
      ->capture_default_str()
      ->check(count);
  app.add_option("--keep", f.run.keep, "Checkpoints kept")->capture_default_str()->check(positive);
  app.add_option("--eval-tokens", f.run.eval_tokens, "Held-out tokens of evaluations on the way")
      ->capture_default_str()
      ->check(positive);
  app.add_option("--sample-prompt", f.sample_prompt, "Prompt of the samples on the way")
      ->capture_default_str();
  f.common.add(app);
  app.footer(
      "Example: braid train --stack \"2 x (3 x (kda, swiglu), gqa, swiglu)\" --width 192 --data "
      "book.txt --time 180s "
      "--out run");
}

}  // namespace

std::function<int()> setup_train(CLI::App& app) {
  auto f = std::make_shared<Flags>();
  f->run.schedule.warmup_steps = 20;
  add_flags(app, *f);
  return [f] { return run(*f); };
}

}  // namespace braid
