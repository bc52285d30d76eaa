#pragma once

#include <optional>
#include <string>

#include "braid/bench/plan.h"
#include "braid/cli/command.h"
#include "braid/stack/settings.h"

namespace braid {

// The flags that say which model: an expression or a model.toml, and settings that override it.
struct ModelFlags {
  std::string stack;
  std::string model;  // model.toml, a run folder or a Hugging Face folder
  std::optional<int64_t> width, heads, head_dim, vocab;
  std::optional<std::string> residual, norm, norm_placement, init;
  std::optional<double> norm_eps, embedding_scale, logit_scale, logit_softcap;
  std::optional<int64_t> positions;
  std::optional<int64_t> meta_tokens;
  std::optional<bool> embedding_norm, tie_embeddings;
  std::optional<uint64_t> seed;
  void add(CLI::App& app);
  void add_settings(CLI::App& app);  // without --stack and --model
  bool any() const;
  // Unresolved settings: the file, then the flags over it. Throws Error(kUsage) when neither
  // --stack nor --model is given.
  ModelSettings settings() const;
  ModelSettings settings(const std::string& expression) const;  // of that stack
};

// What --mem is held against (CommonFlags::require_memory).
std::vector<MemoryPart> training_parts(const TrainingNeed& need);

}  // namespace braid
