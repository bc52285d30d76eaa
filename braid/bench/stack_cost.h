#pragma once
// What stacks cost against length: forward, backward, one decoded token and bytes of state, of each
// stack whole and of each layer in it alone. Every round visits every stack and layer at every
// length, so that a noisy minute hurts all alike; results are medians over rounds.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "braid/bench/limits.h"
#include "braid/core/context.h"
#include "braid/stack/settings.h"

namespace braid {

enum class CostPhase { kForward, kBackward, kDecode };
constexpr CostPhase kCostPhases[] = {CostPhase::kForward, CostPhase::kBackward, CostPhase::kDecode};
const char* phase_name(CostPhase phase);  // "forward", "backward", "decode"

struct StackCostOptions {
  std::vector<int64_t> lengths = {128, 512, 2048, 8192};  // of forward and backward
  std::vector<int64_t> contexts = {1024, 4096, 16384, 65536};
  int rounds = 5;        // at most
  double seconds = 120;  // for all of it; the longest lengths are left out where it is short
  bool layers = true;    // each layer alone too
};

// One phase at one length. Forward and backward: a whole sequence of so many tokens, with the loss
// where the subject is a stack. Decode: one token after so many.
struct CostPoint {
  int64_t length = 0;
  double flops = 0;             // products of one run
  size_t state_bytes = 0;       // decode: of one sequence
  std::vector<double> seconds;  // of one run, one a round
  std::vector<double> shares;   // of the limit read in the same visit
  double median_seconds() const;
  double median_share() const;
  int64_t tokens(CostPhase phase) const { return phase == CostPhase::kDecode ? 1 : length; }
};

struct CostSubject {
  std::string label;       // "A" for a stack, "gqa{window=64}" for a layer
  std::string expression;  // canonical, of a stack; a layer's label
  int64_t parameters = 0;
  int64_t active = 0;                // used for one token
  std::vector<int64_t> used;         // a layer: how often each stack runs it
  std::string alone;                 // why a layer could not be measured, else empty
  std::vector<CostPoint> points[3];  // by CostPhase, ascending
  const std::vector<CostPoint>& of(CostPhase phase) const {
    return points[static_cast<int>(phase)];
  }
  const CostPoint* at(CostPhase phase, int64_t length) const;  // null: not measured
};

struct StackCosts {
  MachineLimits limits;  // medians of the readings taken between the measurements
  std::vector<CostSubject> stacks, layers;
  std::vector<std::string> left_out;  // what the time did not suffice for
  int rounds = 0;                     // that every measured case got
  double seconds = 0;
  bool interrupted = false;  // after the first round: fewer rounds than wanted
};

struct CostProgress {
  std::string what;  // "round 2 of 5, forward and backward of 2048 tokens"
  double eta = 0;    // seconds, never more than what is left of the time
};

// Throws Error(kUsage) for lengths below 1 or beyond a model's learned positions. `progress` may be
// empty; `stop` (too) is asked between cases: true ends with what was measured, in the first round
// with Error(kInterrupted). The buffer that memory is read in (limits.h) is not under ctx's budget.
StackCosts measure_stacks(const Context& ctx, std::span<const ModelSettings> stacks,
                          const StackCostOptions& options,
                          const std::function<void(const CostProgress&)>& progress,
                          const std::function<bool()>& stop);

// "A", "B", ... "Z", "A1", ...
std::string stack_label(size_t index);

// Where the second curve becomes cheaper than the first, or the other way.
struct Crossover {
  double length = 0;       // interpolated between two measured ones on logarithmic scales
  bool to_second = false;  // from there on the second is the cheaper one
};
struct RatioPoint {
  int64_t length = 0;
  double ratio = 0;  // cost of the second over that of the first
};
// Every change of sign of log ratio; an exact 1 belongs to what follows it.
std::vector<Crossover> crossovers(std::span<const RatioPoint> points);

// Medians over rounds of cost(b) / cost(a), round by round, at the lengths that both have.
std::vector<RatioPoint> cost_ratios(const CostSubject& a, const CostSubject& b, CostPhase phase);
std::vector<RatioPoint> state_ratios(const CostSubject& a, const CostSubject& b);

}  // namespace braid
