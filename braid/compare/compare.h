#pragma once
// Several stacks trained on the same data, tokens and seeds, in turns of a few steps, so that a
// busy minute of the machine hurts all alike. A comparison lives in a folder:
//   comparison.json          what is compared and by which flags; another comparison is refused
//   data/                    the unpacked text, shared
//   runs/A-seed0/            one training run (train/checkpoint.h), its log, and final.json
// and goes on where it was stopped.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/stats.h"
#include "braid/bench/stack_cost.h"
#include "braid/compare/match.h"
#include "braid/train/run.h"

namespace braid {

struct CompareConfig {
  std::string out;
  RunConfig run;  // of all runs; model, out and budget are set for each
  MatchKind match = MatchKind::kParams;
  std::vector<ComparedStack> stacks;
  int64_t seeds = 3;
  uint64_t first_seed = 0;
  int64_t points = 20;            // evaluations of each run
  int64_t turn = 8;               // steps of the first stack in a round, about
  Json command = Json::object();  // stored in comparison.json, for whoever goes on with it
  int64_t save_every = 0;         // rounds; 0 = every run.save_seconds of all runs together
};

struct CurvePoint {
  int64_t step = 0;
  int64_t tokens = 0;  // trained on
  double seconds = 0;  // trained
  double bpb = 0;      // of the first eval_tokens held-out ones
  int64_t number = 0;  // which of the `points` it is, from 1; a long step can pass some
};

struct ComparedRun {
  size_t stack = 0;
  uint64_t seed = 0;
  std::vector<CurvePoint> curve;
  int64_t steps = 0, tokens = 0;
  double seconds = 0;
  double flops = 0;                       // products that the steps made
  std::vector<double> tokens_per_second;  // of every step
  Evaluation validation;                  // of all held-out text; empty where it diverged
  int64_t diverged = 0;                   // at this step, else 0
};

struct Comparison {
  CompareConfig config;
  int64_t train_bytes = 0, held_out_bytes = 0, held_out_tokens = 0;
  std::vector<ComparedRun> runs;  // by stack, then seed
  StackCosts costs;               // of a decoded token
};

struct CompareProgress {
  size_t stack = 0;
  uint64_t seed = 0;
  int64_t round = 0, rounds = 0;
  double done = 0;  // share of all training
  double eta = 0;   // seconds; NaN before anything is known
};

// Every member may be empty.
struct CompareWatcher {
  std::function<void(const CompareProgress&, const RunProgress&)> on_step;
  std::function<void(size_t stack, uint64_t seed, const RunProgress&, const Evaluation&)>
      on_evaluation;
  std::function<void(const std::string&)> on_message;
  std::function<bool()> should_stop;
};

// Trains what is not trained yet. False when it was told to stop: everything is saved. Throws
// Error(kUsage) where the folder holds another comparison, with all that differs, or something
// else.
bool train_compared(const Context& ctx, const CompareConfig& config, const CompareWatcher& watcher,
                    Comparison& result);

// Statistics over seeds, NaN where one of the runs diverged.
MeanInterval stack_bpb(const Comparison& c, size_t stack);
// Of bpb of `stack` minus bpb of the first one, seed by seed.
MeanInterval bpb_difference(const Comparison& c, size_t stack);
// A point of a stack's curve over its seeds.
struct MeanPoint {
  double tokens = 0, seconds = 0, bpb = 0;  // means
  double low = 0, high = 0;                 // bpb of the best and the worst seed
};
// The points that every run has which did not diverge.
std::vector<MeanPoint> mean_curve(const Comparison& c, size_t stack);
bool excludes_zero(const MeanInterval& difference);  // false without an interval
constexpr int64_t kSeedsForInterval = 3;
double median_tokens_per_second(const Comparison& c, size_t stack);

// The curve of a run whose log.jsonl is `log`. Throws Error(kBadInput) with the number of a line
// that is not one of a log.
ComparedRun read_run_log(std::string_view log);
// What the run came to, from the text of its final.json.
void read_run_end(std::string_view json, ComparedRun& run);

}  // namespace braid
