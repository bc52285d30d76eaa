#pragma once

#include <string>

#include "braid/cli/command.h"
#include "braid/train/run.h"

namespace braid {

// The flags of optimizer, guard and schedule, for the commands that train.
struct OptimFlags {
  std::string schedule = "wsd";
  std::string optimizer = "muon";
  void add(CLI::App& app, RunConfig& run);
  // Fills in what is named by a word, and checks all. Throws Error(kUsage).
  void apply(RunConfig& run) const;
};

// --batch, --seq-len, --accumulate, whose product stays within int64_t, and --recompute.
void add_step_flags(CLI::App& app, RunConfig& run);

// --tokenizer, of the text that is trained on.
void add_tokenizer_flag(CLI::App& app, std::string& path);

}  // namespace braid
