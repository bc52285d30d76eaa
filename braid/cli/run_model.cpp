#include "braid/cli/run_model.h"

#include <cstdio>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/importers/gguf_load.h"
#include "braid/importers/model_path.h"
#include "braid/infer/positions.h"
#include "braid/train/checkpoint.h"

namespace braid {

void LoadFlags::add(CLI::App& app) {
  app.add_option("--weights", weights,
                 "Keep matrices as f32, bf16, q8, q4 or q4min (default: as the file has them)")
      ->check(CLI::IsMember({"f32", "bf16", "q8", "q4", "q4min"}));
}

LoadOptions LoadFlags::options() const {
  LoadOptions out;
  if (!weights.empty()) out.weights = weight_type_named(weights);
  return out;
}

LoadOptions LoadFlags::options(const CommonFlags& common, WorkloadOf work) const {
  LoadOptions out = options();
  if (common.mem.empty()) return out;
  out.before_fill = [&common, work = std::move(work)](const LoadedModel& loaded,
                                                      std::span<const WeightType> types) {
    const Workload w = work(loaded);
    const MemoryNeed need = inference_memory(common.threads, loaded.model->settings(), types, w);
    common.require_memory(
        {{"weights", need.weights}, {"state", need.state}, {"scratch", need.scratch}},
        format("the model with {} tokens", w.prompt + w.decode),
        "ask for smaller --weights or --kv or for fewer tokens");
  };
  return out;
}

LoadedModel load_any_model(const Context& ctx, const std::string& folder,
                           const LoadOptions& options) {
  require_model(folder);
  std::string path = folder;
  if (!is_hf_folder(folder) && !is_gguf_file(folder)) {
    path = checkpoint_folder(folder);
    check_checkpoint_model(path);
  }
  LoadedModel loaded = load_model(ctx, path, options);
  for (const std::string& note : loaded.notes) std::fprintf(stderr, "[%s]\n", note.c_str());
  return loaded;
}

std::unique_ptr<Model> load_run_model(const Context& ctx, const std::string& folder,
                                      const LoadOptions& options) {
  return load_any_model(ctx, folder, options).model;
}

void warn_beyond_trained(const Model& model, int64_t tokens) {
  static bool said = false;
  const std::string why = said ? "" : beyond_trained(model, tokens);
  if (why.empty()) return;
  said = true;
  std::fprintf(stderr, "[%s]\n", why.c_str());
}

void require_room(const ModelSettings& model, const char* flag, int64_t tokens, int64_t more) {
  const int64_t most = most_tokens(model);
  if (tokens <= most - more) return;
  throw Error(ErrorKind::kUsage,
              format("{} is {}; a sequence of this model has at most {} tokens, so {} is the most",
                     flag, tokens, most, most - more));
}

void require_bytes(const ModelSettings& model) {
  if (model.vocab == 256) return;
  throw Error(ErrorKind::kUsage, format("the model has a vocabulary of {}; text as bytes needs "
                                        "256: name its tokenizer with --tokenizer",
                                        model.vocab));
}

const Tokenizer& require_tokenizer(const LoadedModel& loaded, const std::string& folder) {
  if (loaded.tokenizer != nullptr) return *loaded.tokenizer;
  throw Error(ErrorKind::kBadInput,
              format("{} has neither tokenizer.json nor tiktoken.model, and a vocabulary of {} is "
                     "not bytes; `braid logits --tokens` works without",
                     folder, loaded.model->settings().vocab));
}

std::string finish_words(const GenerateResult& result) {
  return result.finish == "positions" ? "the model's last position" : result.finish;
}

void apply_defaults(const GenerationDefaults& defaults, const CLI::App& app,
                    SamplingConfig& config) {
  const auto given = [&](const char* flag) { return app.get_option(flag)->count() > 0; };
  if (given("--greedy")) return;
  if (defaults.temperature && !given("--temp")) config.temperature = *defaults.temperature;
  if (defaults.min_p && !given("--min-p")) config.min_p = *defaults.min_p;
  if (defaults.repetition_penalty && !given("--repeat-penalty"))
    config.repetition_penalty = *defaults.repetition_penalty;
  if (defaults.top_p && !given("--top-p")) config.top_p = *defaults.top_p;
  if (defaults.top_k && !given("--top-k")) config.top_k = *defaults.top_k;
}

}  // namespace braid
