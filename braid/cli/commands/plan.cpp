#include "braid/bench/plan.h"

#include <cstdio>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/bench/plan_steps.h"
#include "braid/cli/command.h"
#include "braid/cli/model_flags.h"
#include "braid/cli/run_model.h"
#include "braid/importers/load.h"
#include "braid/ops/weight.h"

namespace braid {

namespace {

// A word that could be the name of a file is looked for as one; nobody can tell which was meant.
ModelSettings settings_of(const std::string& target, ModelFlags& flags) {
  if (target.empty()) return flags.settings();
  if (path_exists(target)) {
    flags.model = target;
    return flags.settings();
  }
  flags.stack = target;
  if (target.find_first_of(" ,(){}") != std::string::npos) return flags.settings();
  try {
    return flags.settings();
  } catch (const Error& e) {
    const std::string_view why = e.what();  // its first line; the next ones point into the word
    throw Error(e.kind(), format("there is no file or folder \"{}\", and as a stack: {}", target,
                                 why.substr(0, why.find('\n'))));
  }
}

// What nobody typed shrinks to what a sequence of the model may have; what was typed must be that.
void fit(const ModelSettings& settings, const CLI::App& app, PlanOptions& o) {
  const auto typed = [&](const char* flag) { return app.get_option(flag)->count() > 0; };
  const int64_t most = most_tokens(settings);
  if (!typed("--prefill")) o.prefill = std::min(o.prefill, most);
  if (!typed("--seq-len")) o.seq_len = std::min(o.seq_len, most);
  if (!typed("--contexts") && most < INT64_MAX) {
    std::erase_if(o.contexts, [&](int64_t tokens) { return tokens >= most; });
    o.contexts.push_back(std::min(most, kMostPlannedTokens));
  }
  require_room(settings, "--prefill", o.prefill);
  require_room(settings, "--seq-len", o.seq_len);
  for (const int64_t tokens : o.contexts) require_room(settings, "--contexts", tokens);
  std::sort(o.contexts.begin(), o.contexts.end());
}

void print(const std::string& text) { std::fputs(text.c_str(), stdout); }

}  // namespace

std::function<int()> setup_plan(CLI::App& app) {
  struct Flags {
    std::string target;
    ModelFlags model;
    CommonFlags common;
    PlanOptions options;
    std::string kv = "f32", weights;
    bool parameters = false;
  };
  auto f = std::make_shared<Flags>();
  app.add_option("target", f->target,
                 "A stack expression, a model.toml, a run or Hugging Face folder, or a .gguf file");
  f->model.add(app);
  f->common.add(app);
  app.add_option("--contexts", f->options.contexts, "Context lengths, as 1024,131072")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  app.add_option("--prefill", f->options.prefill, "Prompt tokens whose prefill is predicted")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, kMostPlannedTokens));
  app.add_option("--kv", f->kv, "Type of kept keys and values: f32, bf16 or q8")
      ->capture_default_str();
  app.add_option("--weights", f->weights,
                 "Type of weights in inference: f32, bf16, q8, q4 or q4min (default: as the "
                 "checkpoint has them, else f32)")
      ->check(CLI::IsMember({"f32", "bf16", "q8", "q4", "q4min"}));
  app.add_option("--batch", f->options.batch, "Sequences in a training step")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  app.add_option("--seq-len", f->options.seq_len, "Tokens of each")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, kMostPlannedTokens));
  app.add_option("--accumulate", f->options.accumulate, "Micro-batches a step")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  app.add_flag(
      "--parameters", f->parameters,
      "Only the list of all parameters: name, shape, type, how training begins with it; the "
      "names that train --freeze and --train-only are matched with");
  app.add_flag("--recompute", f->options.recompute, "Activation recomputation in training");
  app.footer(
      "Example: braid plan \"12 x (3 x (gdn, swiglu), gqa{gate=true}, swiglu)\" --width 1024");
  return [f, &app] {
    const ModelSettings settings = settings_of(f->target, f->model);
    f->options.state.kv = parse_kv_type(f->kv);
    f->options.threads = f->common.threads;
    if (!f->weights.empty()) {
      f->options.weights = *weight_type_named(f->weights);
    } else if (has_weights(f->model.model) &&
               print_settings(settings) == print_settings(load_settings(f->model.model))) {
      f->options.types = loaded_types(f->model.model);
    }
    fit(settings, app, f->options);
    if (f->parameters) {
      const Plan plan = list_plan(settings, f->options);
      print(f->common.json ? parameters_json(plan).dump() + "\n" : parameters_text(plan));
      return 0;
    }
    if (!f->common.mem.empty()) parse_bytes(f->common.mem, "--mem");
    const Plan plan = make_plan(settings, f->options, probe_limits(f->common.probe_context()));
    print(f->common.json ? plan_json(plan, f->options).dump() + "\n" : plan_text(plan, f->options));
    f->common.require_memory(
        training_parts(plan.train_need),
        format("a training step of {} x {} tokens", f->options.batch, f->options.seq_len),
        "lower --batch or --seq-len, or use --recompute");
    return 0;
  };
}

}  // namespace braid
