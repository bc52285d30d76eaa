#include "braid/bench/verify.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "braid/base/clock.h"
#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/cli/command.h"
#include "braid/cli/model_flags.h"
#include "braid/cli/progress.h"
#include "braid/cli/run_model.h"

namespace braid {
namespace {

void print_json(const std::vector<VerifyCheck>& checks) {
  for (const VerifyCheck& c : checks) {
    const Json line = Json::object({{"layer", c.layer},
                                    {"check", c.what},
                                    {"error", c.error},
                                    {"bound", c.bound},
                                    {"passed", c.passed()}});
    std::puts(line.dump().c_str());
  }
}

void print_table(const std::vector<VerifyCheck>& checks) {
  size_t layer = 14, what = 40;
  for (const VerifyCheck& c : checks) {
    layer = std::max(layer, c.layer.size());
    what = std::max(what, c.what.size());
  }
  for (const VerifyCheck& c : checks) {
    std::printf("%-4s  %-*s %-*s %9.2e  (bound %.0e)\n", c.passed() ? "ok" : "FAIL",
                static_cast<int>(layer), c.layer.c_str(), static_cast<int>(what), c.what.c_str(),
                c.error, c.bound);
  }
}

// A checkpoint with its own weights, anything else with fresh ones.
std::unique_ptr<Model> model_to_verify(const Context& ctx, const ModelFlags& flags) {
  if (has_weights(flags.model)) {
    return load_run_model(ctx, flags.model, {.writable = true});  // checked in f32
  }
  // Small weights give scores that are nearly equal, where f32 has few digits left of what is to be
  // compared: choices, and gradients through a softmax.
  ModelSettings settings = flags.settings();
  if (!flags.init) settings.init = parse_named("fan_in", "--init");
  auto model = std::make_unique<Model>(ctx, settings);
  perturb_small_parameters(*model, model->settings().seed);
  return model;
}

}  // namespace

std::function<int()> setup_verify(CLI::App& app) {
  struct Flags {
    std::string target;
    ModelFlags model;
    CommonFlags common;
    VerifyOptions options;
  };
  auto f = std::make_shared<Flags>();
  app.add_option("target", f->target,
                 "A stack expression, a model.toml, a run or Hugging Face folder, or a .gguf file");
  f->model.add(app);
  f->common.add(app);
  app.add_option("--tokens", f->options.tokens, "Length of the test sequence")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{16}, int64_t{4096}));
  app.footer("Example: braid verify \"kda, swiglu, gqa, swiglu\" --width 64");
  return [f] {
    if (!f->target.empty()) (path_exists(f->target) ? f->model.model : f->model.stack) = f->target;
    const bool small = f->model.model.empty() && !f->model.width;
    if (small) f->model.width = 64;  // the reference is slow on purpose
    const double start = now_seconds();
    const Context ctx = f->common.context();
    const std::unique_ptr<Model> model = model_to_verify(ctx, f->model);
    f->options.on_untested = [](const std::string& what) {
      std::fprintf(stderr, "note: %s\n", what.c_str());
    };
    ProgressLine line;
    const std::vector<VerifyCheck> checks =
        verify_stack(ctx, *model, f->options, [&](const VerifyProgress& p) {
          if (now_seconds() - start > 2)
            line.show(format("verifying {}: {} of {} done", p.what, p.done, p.all));
        });
    line.finish();
    const int64_t failed = std::count_if(checks.begin(), checks.end(),
                                         [](const VerifyCheck& c) { return !c.passed(); });
    f->common.json ? print_json(checks) : print_table(checks);
    std::fflush(stdout);
    std::fprintf(stderr, "%zd checks, %zd failed, %.1f s\n", std::ssize(checks),
                 static_cast<ssize_t>(failed), now_seconds() - start);
    return failed == 0 ? 0 : static_cast<int>(ErrorKind::kInternal);
  };
}

}  // namespace braid
