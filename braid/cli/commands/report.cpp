#include "braid/report/report.h"

#include <cstdio>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/bench/decode_cost.h"
#include "braid/bench/limits.h"
#include "braid/cli/command.h"
#include "braid/cli/evaluate_shown.h"
#include "braid/cli/output_path.h"
#include "braid/cli/progress.h"
#include "braid/cli/run_model.h"
#include "braid/importers/gguf_load.h"
#include "braid/infer/generate.h"
#include "braid/report/compress.h"
#include "braid/train/checkpoint.h"
#include "braid/train/run.h"

namespace braid {
namespace {

struct Flags {
  std::string model;
  std::string prompt = "A model is ";
  int64_t max_tokens = 300;
  SamplingConfig sampling;
  std::vector<int64_t> contexts = {1024, 4096, 16384, 65536, 131072};
  CommonFlags common;
};

void read_log(const std::string& run_folder, RunReport& r) {
  const std::string path = join_path(run_folder, "log.jsonl");
  if (!path_exists(path)) return;
  try {
    read_training_log(read_file(path), r);
  } catch (Error& e) {
    throw e.add_context(path);
  }
}

void evaluate_run(const Context& ctx, Model& model, const std::string& folder, const Json& state,
                  const DataTokenizer& tokenizer, RunReport& r) {
  const TrainData data =
      open_run_data(run_data_cache(folder), state.at("data_path").as_string(),
                    state.at("data_binary").as_bool(), model.settings().seed, tokenizer);
  r.data = state.at("data_path").as_string();
  r.train_bytes = data.train_bytes();
  r.held_out_bytes = static_cast<int64_t>(data.held_out_text().size());
  r.validation_bpb =
      evaluate_shown(ctx, model,
                     data.held_out(state.at("batch").as_int(), state.at("seq_len").as_int()),
                     "validation")
          .bits_per_byte();
  r.gzip_bpb = gzip9_bits_per_byte(data.held_out_text());
  r.xz_bpb = xz9_bits_per_byte(data.held_out_text());
}

StackCost decode_cost(const Context& ctx, const ModelSettings& settings, const char* label,
                      const Flags& f, ProgressLine& line) {
  Model model(ctx, settings);
  StackCost cost{label, model.canonical_stack(), {}};
  for (const int64_t context : f.contexts) {
    line.show(format("decode cost, {}: {} tokens of context", label, context));
    const DecodeCost c = measure_decode(ctx, model, {&context, 1})[0];
    cost.rows.push_back({c.context, c.ms, static_cast<int64_t>(c.state_bytes)});
  }
  return cost;
}

// A report is of a run of train's; what else has a name says what it is.
void require_run(const std::string& folder) {
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorKind::kUsage,
                format("{} is {}, not the folder of a training run (train --out)", folder, what));
  };
  if (is_gguf_file(folder)) refuse("a GGUF file");
  if (path_exists(join_path(folder, "comparison.json")))
    refuse(
        "the folder of a comparison, whose report is its own compare.html; a run is in each of "
        "its folders");
  if (is_hf_folder(folder)) refuse("a Hugging Face folder");
  if (path_exists(join_path(folder, "model.toml")) &&
      !path_exists(join_path(folder, "train/state.json")))
    refuse("a packed model");
}

int run(const Flags& f) {
  check_sampling(f.sampling);
  require_run(f.model);
  require_output_folder("--model", f.model);
  const Context ctx = f.common.context();
  const LoadedModel loaded = load_any_model(ctx, f.model);
  Model* const model = loaded.model.get();
  const Tokenizer& tokenizer = require_tokenizer(loaded, f.model);
  const std::string saved = checkpoint_folder(f.model);
  const Json state = Json::parse(read_file(join_path(saved, "train/state.json"), size_t{1} << 24));
  ProgressLine line;
  line.show("measuring the machine");
  const MachineLimits limits = probe_limits(f.common.probe_context());
  RunReport r;
  r.stack = model->canonical_stack();
  r.residual = print_named(model->settings().residual);
  r.width = model->settings().width;
  r.parameters = model->parameters().trained_count();
  r.steps = state.at("step").as_int();
  r.tokens = state.at("tokens").as_int();
  r.seconds = state.at("seconds").as_real();
  r.machine = limits.cpu;
  r.peak_gflops = limits.peak_gflops;
  r.read_gbs = limits.read_gbs;
  read_log(f.model, r);
  line.show("validation, gzip and xz on the held-out text");
  evaluate_run(ctx, *model, f.model, state,
               tokenizer.is_bytes() ? DataTokenizer{} : load_data_tokenizer(saved), r);
  r.prompt = f.prompt;
  GenerateConfig g;
  g.sampling = f.sampling;
  g.max_tokens = f.max_tokens;
  SequenceState seq = model->new_sequence(ctx);
  r.sample =
      generate(ctx, *model, tokenizer, seq, tokenizer.encode(f.prompt), g, [](std::string_view) {
        return true;
      }).text;
  r.costs.push_back(decode_cost(ctx, model->settings(), "hybrid", f, line));
  r.costs.push_back(
      decode_cost(ctx, attention_everywhere(model->settings()), "attention everywhere", f, line));
  write_report(r, f.model);
  line.finish();
  std::fputs(f.common.json ? (report_json(r).dump() + "\n").c_str() : report_table(r).c_str(),
             stdout);
  std::fprintf(stderr, "saved %s and %s\n", join_path(f.model, "report.json").c_str(),
               join_path(f.model, "report.html").c_str());
  return 0;
}

}  // namespace

std::function<int()> setup_report(CLI::App& app) {
  auto f = std::make_shared<Flags>();
  f->sampling.temperature = 0.8;
  f->sampling.top_p = 0.95;
  app.add_option("-m,--model", f->model, "Run folder")->required();
  app.add_option("-p,--prompt", f->prompt, "Prompt of the sample")->capture_default_str();
  app.add_option("-n,--max-tokens", f->max_tokens, "Tokens of the sample")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  app.add_option("--temp,--temperature", f->sampling.temperature, "Temperature of the sample")
      ->capture_default_str();
  app.add_option("-s,--seed", f->sampling.seed, "Seed of the sample")->capture_default_str();
  app.add_option("--contexts", f->contexts, "Context lengths of the decode cost, as 1024,131072")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  f->common.add(app);
  app.footer("Example: braid report -m demo/run");
  return [f] { return run(*f); };
}

}  // namespace braid
