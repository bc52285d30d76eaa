#pragma once
// What steps of a model cost, found by taking them on dry memory: products and bytes come from the
// code that will run, of every layer. A few repeats of a block do not tell what many hold: which
// step of a run holds the most changes with their number.

#include <cstdint>
#include <vector>

#include "braid/bench/plan.h"

namespace braid {

// All tokens are laid out as ids, though nothing is computed of them.
constexpr int64_t kMostPlannedTokens = int64_t{1} << 27;

struct DrySteps {
  struct AtContext {
    double decode_flops = 0;
    MemoryNeed memory;
  };
  double prefill_flops = 0;
  std::vector<AtContext> contexts;  // of the options
  double train_flops = 0;
  TrainingNeed train_need;
};

// Throws Error(kUsage) for a prompt, a context or a training step of more tokens, or of none.
DrySteps dry_steps(const ModelSettings& settings, const PlanOptions& options);

// A context on dry memory whose products `counters` (null: nobody) counts.
Context dry_context(Counters* counters);

// The type each parameter is kept in: options.types, or as options.weights asks.
std::vector<WeightType> kept_types(const Model& model, const PlanOptions& options);

}  // namespace braid
