// How fast a model reads and writes on this machine, beside the machine's limits.

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <vector>

#include "braid/base/clock.h"
#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/bench/limits.h"
#include "braid/cli/command.h"
#include "braid/cli/run_model.h"
#include "braid/infer/generate.h"
#include "braid/infer/positions.h"

namespace braid {
namespace {

constexpr int64_t kWarmUp = 64;

struct Flags {
  std::string model;
  CLI::App* app = nullptr;
  int64_t prompt = 2048, context = 0, decode = 32;
  std::string kv = "f32";
  LoadFlags load;
  CommonFlags common;
};

// The tokens bench/peers/llama_cpp.mjs reads too: spread over the vocabulary.
int32_t token(int64_t i, int64_t vocab) {
  const uint64_t spread = static_cast<uint64_t>(i) * 2654435761u % 4294967296u;
  return static_cast<int32_t>(spread * static_cast<uint64_t>(vocab) >> 32);
}

// Of this process, now. (The file has no size, so read_file() would see nothing.)
size_t resident_bytes() {
  std::ifstream pages("/proc/self/statm");
  size_t all = 0, resident = 0;
  pages >> all >> resident;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

// What nobody typed is cut to what a sequence of the model may have; what was typed must fit.
void fit(const ModelSettings& model, Flags& f) {
  const auto typed = [&](const char* flag) { return f.app->get_option(flag)->count() > 0; };
  const int64_t most = most_tokens(model);
  const int64_t read = std::max(f.context, typed("--prompt") ? f.prompt : 1);
  if (!typed("--decode")) f.decode = std::clamp<int64_t>(most - read, 1, f.decode);
  if (!typed("--prompt")) f.prompt = std::clamp<int64_t>(most - f.decode, 1, f.prompt);
  require_room(model, "--decode", f.decode, 1);
  require_room(model, f.context > 0 ? "--context" : "--prompt", std::max(f.context, f.prompt),
               f.decode);
}

int run(Flags& f) {
  if (f.context > 0 && f.app->get_option("--prompt")->count() == 0)
    f.prompt = std::min(f.prompt, f.context);
  if (f.prompt < 1 || f.decode < 1)
    throw Error(ErrorKind::kUsage, "--prompt and --decode need one token at least");
  if (f.context != 0 && f.context < f.prompt) {
    throw Error(ErrorKind::kUsage,
                format("--context {} is less than the {} of --prompt", f.context, f.prompt));
  }
  const Context ctx = f.common.context();
  const StateOptions state{parse_kv_type(f.kv)};
  const double load_start = now_seconds();
  const auto work_of = [&](const LoadedModel& loaded) {
    fit(loaded.model->settings(), f);
    return Workload{std::max(f.context, f.prompt), f.decode, state};
  };
  const LoadedModel loaded = load_any_model(ctx, f.model, f.load.options(f.common, work_of));
  const double load_seconds = now_seconds() - load_start;
  const Workload work = work_of(loaded);
  const int64_t total = work.prompt;
  Model* const model = loaded.model.get();
  warn_beyond_trained(*model, total + f.decode);
  const int64_t vocab = model->settings().vocab;
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < total + f.decode; ++i) ids.push_back(token(i, vocab));
  const std::span<const int32_t> all(ids);
  {
    SequenceState warm = model->new_sequence(ctx, state);
    advance(ctx, *model, warm, all.first(static_cast<size_t>(std::min(total, kWarmUp))));
  }
  SequenceState sequence = model->new_sequence(ctx, state);
  const size_t before = static_cast<size_t>(total - f.prompt);
  if (before > 0) advance(ctx, *model, sequence, all.first(before));
  const double prefill_start = now_seconds();
  advance(ctx, *model, sequence, all.subspan(before, static_cast<size_t>(f.prompt)));
  const double prefill_seconds = now_seconds() - prefill_start;
  std::vector<double> steps;
  for (int64_t i = 0; i < f.decode; ++i) {
    const double step_start = now_seconds();
    advance(ctx, *model, sequence, all.subspan(static_cast<size_t>(total + i), 1));
    steps.push_back(now_seconds() - step_start);
  }
  const size_t resident = resident_bytes();
  const MemoryNeed planned =
      inference_memory(f.common.threads, model->settings(), weight_types(*model), work);
  std::sort(steps.begin(), steps.end());
  const double median = steps[steps.size() / 2];
  const double prefill_rate = static_cast<double>(f.prompt) / prefill_seconds;
  const MachineLimits limits = probe_limits(f.common.probe_context());
  Json line = Json::object({{"engine", "braid"}, {"file", f.model}, {"threads", limits.threads}});
  line.set("context", total).set("prompt", f.prompt).set("prefill_seconds", prefill_seconds);
  line.set("prefill_tokens_per_second", prefill_rate).set("decode_tokens", f.decode);
  line.set("decode_seconds_median", median).set("decode_tokens_per_second", 1 / median);
  line.set("decode_best_tokens_per_second", 1 / steps[0]).set("load_seconds", load_seconds);
  line.set("resident_bytes", resident).set("planned_resident_bytes", planned.resident());
  line.set("planned_weight_bytes", planned.weights).set("planned_state_bytes", planned.state);
  line.set("planned_scratch_bytes", planned.scratch);
  line.set("instructions", instructions_json(limits.instructions));
  line.set("f32_peak_gflops", limits.peak_gflops).set("memory_read_gbs", limits.read_gbs);
  if (f.common.json) {
    std::puts(line.dump().c_str());
    return 0;
  }
  std::printf("prefill of %lld tokens up to %lld: %.1f tokens/s\n",
              static_cast<long long>(f.prompt), static_cast<long long>(total), prefill_rate);
  std::printf("decode from %lld on: %.2f tokens/s (median of %lld)\n",
              static_cast<long long>(total), 1 / median, static_cast<long long>(f.decode));
  std::printf("loaded in %.2f s; resident %.0f MiB, planned %.0f\n", load_seconds,
              static_cast<double>(resident) * 0x1p-20,
              static_cast<double>(planned.resident()) * 0x1p-20);
  std::printf("the machine: %.0f GFLOP/s f32 peak, %.1f GB/s read; %s\n", limits.peak_gflops,
              limits.read_gbs, instructions_text(limits.instructions).c_str());
  return 0;
}

}  // namespace

std::function<int()> setup_speed(CLI::App& app) {
  auto f = std::make_shared<Flags>();
  f->app = &app;
  app.add_option("-m,--model", f->model, "Model folder or .gguf file")->required();
  app.add_option("--prompt", f->prompt, "Tokens read in one go")->capture_default_str();
  app.add_option("--context", f->context, "Tokens in all before decoding; 0 = those of --prompt")
      ->capture_default_str();
  app.add_option("--decode", f->decode, "Tokens then written one by one")->capture_default_str();
  f->load.add(app);
  app.add_option("--kv", f->kv, "Type of kept keys and values: f32, bf16 or q8")
      ->capture_default_str();
  f->common.add(app);
  app.footer("Example: braid speed -m model.gguf --prompt 2048 --context 16384");
  return [f] { return run(*f); };
}

}  // namespace braid
