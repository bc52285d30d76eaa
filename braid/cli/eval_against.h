#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "braid/cli/command.h"
#include "braid/cli/run_model.h"

namespace braid {

// eval --against: what a model's predictions lose against a reference's.
struct AgainstFlags {
  std::string reference, tokens_file;
  std::vector<int64_t> contexts = {512, 8192, 32768};
  CLI::Option* contexts_flag = nullptr;
  void add(CLI::App& app);
};

// Prints KL(reference || model) and how often both find the same token likeliest, at each context
// that the text (or the token file) reaches. The reference is kept as its file has it.
int eval_against(const CommonFlags& common, const Context& ctx, LoadedModel loaded,
                 const std::string& model, const std::string& text, const AgainstFlags& f);

}  // namespace braid
