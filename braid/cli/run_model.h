#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "braid/cli/command.h"
#include "braid/core/context.h"
#include "braid/importers/load.h"
#include "braid/infer/generate.h"
#include "braid/infer/memory.h"
#include "braid/infer/sampler.h"
#include "braid/stack/model.h"

namespace braid {

// What a command is about to run, once the tokenizer is there.
using WorkloadOf = std::function<Workload(const LoadedModel&)>;

// How weights are kept: --weights.
struct LoadFlags {
  std::string weights;
  void add(CLI::App& app);
  LoadOptions options() const;
  // With the sum of weights, state and scratch of `work` held against --mem before any is
  // allocated: Error(kBudget) with the parts.
  LoadOptions options(const CommonFlags& common, WorkloadOf work) const;
};

// The model of a run folder, a checkpoint folder or a Hugging Face folder, weights loaded; what was
// recognised and left out is said on stderr. Throws Error(kBadInput) with what is wrong where.
LoadedModel load_any_model(const Context& ctx, const std::string& folder,
                           const LoadOptions& options = {});
std::unique_ptr<Model> load_run_model(const Context& ctx, const std::string& folder,
                                      const LoadOptions& options = {});

// Text goes in and out as bytes: throws Error(kUsage) for a model with another vocabulary.
void require_bytes(const ModelSettings& model);
// Says on stderr, once in a process, that `tokens` are more than the model was made for.
void warn_beyond_trained(const Model& model, int64_t tokens);
// Throws Error(kUsage) naming `flag`, as typed, when `tokens` and the `more` that follow are more
// than a sequence of the model may have.
void require_room(const ModelSettings& model, const char* flag, int64_t tokens, int64_t more = 0);
// The model's tokenizer; throws Error(kBadInput) when it came without one.
const Tokenizer& require_tokenizer(const LoadedModel& loaded, const std::string& folder);
// Why a text ended, to a person.
std::string finish_words(const GenerateResult& result);
// Sampling as the checkpoint's makers do it, where `app` was given no flag for it.
void apply_defaults(const GenerationDefaults& defaults, const CLI::App& app,
                    SamplingConfig& config);

}  // namespace braid
