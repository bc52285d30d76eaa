#pragma once
// What makes stacks comparable: the same number of parameters, the same training FLOPs or the same
// training time.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "braid/bench/plan.h"
#include "braid/stack/settings.h"
#include "braid/train/run.h"

namespace braid {

enum class MatchKind { kNone, kParams, kFlops, kTime };
// "none", "params", "flops" or "time"; throws Error(kUsage) naming the four.
MatchKind parse_match(std::string_view name);
const char* match_name(MatchKind kind);

// A stack as it takes part.
struct ComparedStack {
  std::string label;       // "A"
  std::string expression;  // canonical
  ModelSettings settings;  // resolved; the seed is set for each run
  int64_t parameters = 0;
  int64_t active = 0;     // used for one token
  double step_flops = 0;  // products of a training step whose rows are one document each
  Budget budget;
};

// The stacks at the base's batch and with its budget (in steps, or in seconds for kTime), changed
// as `kind` asks: kParams gives every later stack the width whose number of parameters is nearest
// the first's, kFlops the number of steps whose FLOPs are. Throws Error(kUsage), with the stack's
// label, for stacks that cannot be built.
std::vector<ComparedStack> match_stacks(std::span<const ModelSettings> stacks, MatchKind kind,
                                        const RunConfig& base);

// A training step of the run, for plan.h.
PlanOptions step_options(const RunConfig& run);

// Products of all its steps; 0 where the budget is not in steps.
double training_flops(const ComparedStack& stack);

}  // namespace braid
