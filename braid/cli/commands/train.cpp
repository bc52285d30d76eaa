#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/base/strings.h"
#include "braid/bench/limits.h"
#include "braid/bench/plan.h"
#include "braid/cli/command.h"
#include "braid/cli/model_flags.h"
#include "braid/cli/model_tokenizer.h"
#include "braid/cli/optim_flags.h"
#include "braid/cli/output_path.h"
#include "braid/cli/progress.h"
#include "braid/cli/remembered_flags.h"
#include "braid/cli/run_model.h"
#include "braid/infer/generate.h"
#include "braid/train/checkpoint.h"
#include "braid/train/run.h"
#include "braid/train/run_log.h"

namespace braid {
namespace {

struct Flags {
  ModelFlags model;
  CommonFlags common;
  RunConfig run;
  std::string time;
  OptimFlags optim;
  std::string init;
  std::string sample_prompt = "The ";
  std::string tokenizer;
  std::string train_only, freeze;  // patterns with commas between them
  int64_t sample_tokens = 80;
  std::vector<std::string> changes;  // of a resumed run against its first command
};

std::string progress_line(const RunConfig& c, const RunProgress& p, double peak_gflops) {
  const double done = c.budget.progress(p.step, p.tokens, p.seconds);
  const double eta = done > 0 ? p.seconds * (1 / done - 1) : 0;
  const std::string steps =
      c.budget.steps > 0 ? format("{}/{}", p.step, c.budget.steps) : format("{}", p.step);
  std::string beside;
  for (const auto& [name, value] : p.auxiliary) beside += format("  {} {:.4g}", name, value);
  return format(
      "step {}  loss {:.3f}  bpb {:.3f}{}  {} tok/s  {:.0f}% of f32 peak  {:.0f}% done  ETA {}",
      steps, p.smooth_loss, p.smooth_bpb, beside, format_count(p.tokens_per_second),
      100 * p.gflops / peak_gflops, 100 * std::min(1.0, done), format_seconds(eta));
}

std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  return text;
}

std::string write_sample(const Context& ctx, Model& model, const Flags& f) {
  GenerateConfig g;
  g.max_tokens = f.sample_tokens;
  g.sampling.temperature = 0.8;
  g.sampling.top_p = 0.95;
  g.sampling.seed = model.settings().seed;
  SequenceState seq = model.new_sequence(ctx);
  const auto tokenizer = f.run.tokenizer.present() ? f.run.tokenizer.tokenizer : byte_tokenizer();
  const GenerateResult r = generate(ctx, model, *tokenizer, seq, tokenizer->encode(f.sample_prompt),
                                    g, [](std::string_view) { return true; });
  return f.sample_prompt + r.text;
}

Json step_json(const RunProgress& p, double peak_gflops) {
  Json line = Json::object({{"event", "step"},
                            {"step", p.step},
                            {"loss", p.loss},
                            {"bpb", p.bpb},
                            {"tokens_per_second", p.tokens_per_second},
                            {"peak_share", p.gflops / peak_gflops},
                            {"grad_norm", p.grad_norm}});
  if (!p.auxiliary.empty()) line.set("auxiliary", losses_json(p.auxiliary));
  return line;
}

// An existing run needs no flags but its folder; what makes it another run must agree where it is
// given (train/run.cpp).
void fill_from_run(CLI::App& app, Flags& f) {
  RememberedFlags flags(app, "Model", {"--seed"});  // model.toml holds those
  const std::string tokenizer = f.tokenizer;        // as given now; the run has its own
  std::string texts = f.init;
  if (const auto found = find_checkpoint(f.run.out, {})) {
    texts = found->path;
    if (!f.model.any()) f.model.model = found->path;
    try {
      f.changes = flags.restore(checkpoint_state(*found).at("command"));
    } catch (Error& e) {
      throw e.add_context(found->path);
    }
  }
  f.run.command = flags.given();
  if (!f.model.any()) f.model.model = f.init;
  if (!f.model.any()) {
    throw Error(ErrorKind::kUsage,
                format("{} holds no run to go on from, and no model is given to start one: use "
                       "--stack \"EXPRESSION\", --model model.toml or --init-from MODEL",
                       f.run.out));
  }
  f.run.model = f.model.settings();
  if (!tokenizer.empty()) {
    f.run.tokenizer = load_data_tokenizer(tokenizer);
  } else if (!texts.empty()) {
    f.run.tokenizer = tokenizer_of_model(texts);
  }
  if (f.run.tokenizer.present() && f.model.model.empty() && !f.model.vocab)
    f.run.model.vocab = f.run.tokenizer.tokenizer->vocab_size();
}

std::vector<std::string> patterns(const std::string& list, const char* flag) {
  std::vector<std::string> all;
  if (list.empty()) return all;
  for (const std::string_view pattern : split(list, ',')) {
    if (pattern.empty())
      throw Error(ErrorKind::kUsage, format("{} is \"{}\", with an empty pattern", flag, list));
    all.emplace_back(pattern);
  }
  return all;
}

void check_flags(Flags& f) {
  if (!f.time.empty()) f.run.budget.seconds = parse_seconds(f.time, "--time");
  const Budget& b = f.run.budget;
  if (b.steps <= 0 && b.tokens <= 0 && b.seconds <= 0) {
    throw Error(ErrorKind::kUsage, "no budget given: use --steps N, --tokens N or --time 180s");
  }
  f.optim.apply(f.run);
  f.run.optim.trained = {patterns(f.train_only, "--train-only"), patterns(f.freeze, "--freeze")};
  if (f.run.data.empty()) {
    throw Error(ErrorKind::kUsage, "no data given: use --data PATH, a file or folder of text");
  }
  if (!f.run.tokenizer.present()) require_bytes(f.run.model);
}

// Said before anything is written, instead of in the middle of the first step.
void check_memory(const Flags& f) {
  if (f.common.mem.empty()) return;
  PlanOptions o;
  o.batch = f.run.batch;
  o.seq_len = f.run.seq_len;
  o.accumulate = f.run.accumulate;
  o.recompute = f.run.recompute;
  o.use_muon = f.run.optim.use_muon;
  o.trained = f.run.optim.trained;
  const TrainingNeed need = training_need({&f.run.model, 1}, o);
  f.common.require_memory(training_parts(need),
                          format("a training step of {} x {} tokens", o.batch, o.seq_len),
                          "lower --batch or --seq-len, or use --recompute");
  if (f.init.empty() || find_checkpoint(f.run.out, {})) return;
  // At the beginning there are no activations yet, but the model that weights are taken from.
  std::vector<MemoryPart> parts = training_parts({need.weights, need.gradients, need.optimizer, 0});
  parts.push_back({"the model of --init-from", weight_bytes(load_settings(f.init))});
  f.common.require_memory(parts, "training that begins with weights of " + f.init,
                          "raise --mem; the second model goes once its weights are taken");
}

// Parameters of the same name and shape are those of `from`.
void take_weights(const Context& ctx, const std::string& from, Model& model, ProgressLine& line) {
  const LoadedModel loaded = load_any_model(ctx, from, {.writable = true});
  int64_t taken = 0, all = 0;
  std::string first_new;
  for (Parameter& p : model.parameters()) {
    const auto same = std::ranges::find_if(loaded.model->parameters(),
                                           [&](const Parameter& q) { return q.name == p.name; });
    const bool fits =
        same != loaded.model->parameters().end() && same->value.shape() == p.value.shape();
    if (fits) std::memcpy(p.value.data(), same->value.data(), p.value.bytes());
    if (!fits && first_new.empty()) first_new = p.name;
    taken += fits;
    ++all;
  }
  if (taken == 0) {
    throw Error(
        ErrorKind::kUsage,
        format("--init-from {}: none of its parameters has name and shape of this model's", from));
  }
  line.message(format("{} of {} parameters from {}{}", taken, all, from,
                      taken < all ? "; the first new one is " + first_new : ""));
}

int run(CLI::App& app, Flags& f) {
  require_output_folder("--out", f.run.out);
  require_run_folder(f.run.out);
  fill_from_run(app, f);
  check_flags(f);
  check_memory(f);
  const Context ctx = f.common.context();
  const Context probe_context = f.common.probe_context();
  PeakGauge gauge(probe_context);
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
    for (const std::string& change : std::exchange(f.changes, {})) line.message(change);
    const double peak = gauge.best_gflops();
    line.show(progress_line(f.run, p, peak));
    if (f.common.json) print(step_json(p, peak));
  };
  if (!f.init.empty()) {
    w.on_fresh = [&](Model& model) {
      take_weights(ctx, f.init, model, line);
      ctx.arena->trim();
    };
  }
  w.on_evaluation = [&](const RunProgress& p, const Evaluation& e) {
    if (e.targets == 0)
      return line.message("no validation: the held-out slice of this data is empty");
    line.message(format("step {}: validation {:.4f} bits per byte over {} bytes", p.step,
                        e.bits_per_byte(), e.bytes));
    if (f.common.json)
      print(Json::object({{"event", "validation"}, {"step", p.step}, {"bpb", e.bits_per_byte()}}));
  };
  w.on_sample = [&](Model& model, const RunProgress& p) {
    const std::string text = write_sample(ctx, model, f);
    line.message("  sample: " + one_line(text));
    if (f.common.json) print(Json::object({{"event", "sample"}, {"step", p.step}, {"text", text}}));
  };
  const RunSummary s = run_training(ctx, f.run, w);
  line.finish();
  if (f.common.json) {
    print(Json::object({{"event", s.interrupted ? "interrupted" : "done"},
                        {"step", s.last.step},
                        {"tokens", s.last.tokens},
                        {"seconds", s.last.seconds},
                        {"loss", s.last.smooth_loss},
                        {"validation_bpb", s.validation.bits_per_byte()},
                        {"out", f.run.out}}));
  }
  if (s.interrupted && s.last.step == 0) {
    std::fputs("interrupted before the first step; there is nothing to save\n", stderr);
    return static_cast<int>(ErrorKind::kInterrupted);
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
  const auto not_empty = [](const std::string& list) {
    return list.empty() ? std::string("\"\" names nothing; leave the flag out") : std::string();
  };
  app.add_option("--data", f.run.data,
                 "Text: a file, a folder, .gz, .zst, .dz or .jsonl (a resumed run knows its own)");
  add_tokenizer_flag(app, f.tokenizer);
  app.add_flag("--data-binary", f.run.data_binary, "Accept files that are not text");
  app.add_option("--out", f.run.out,
                 "The run's folder: new or empty, or one that holds a run, which goes on")
      ->required();
  f.model.add(app);
  app.add_option(
      "--init-from", f.init,
      "Begin with the weights of a run, a Hugging Face folder or a GGUF file: parameters "
      "of the same name and shape; its model too unless --stack or -m says another");
  app.add_option("--steps", f.run.budget.steps, "Stop after this many optimizer steps")
      ->check(count)
      ->group("Budget");
  app.add_option("--tokens", f.run.budget.tokens, "Stop after this many tokens")
      ->check(count)
      ->group("Budget");
  app.add_option("--time", f.time, "Stop after this much training time, e.g. 180s or 2h")
      ->group("Budget");
  add_step_flags(app, f.run);
  f.optim.add(app, f.run);
  app.add_option(
         "--train-only", f.train_only,
         "Train only parameters whose names fit, the rest stays bit for bit: patterns with * "
         "and ?, commas between them")
      ->check(not_empty)
      ->group("Optimizer");
  app.add_option("--freeze", f.freeze, "Train all but parameters whose names fit")
      ->check(not_empty)
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
  return [f, &app] { return run(app, *f); };
}

}  // namespace braid
