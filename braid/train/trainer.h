#pragma once
// One optimizer step: loss and gradients of the micro-batches, guard, clip, update.

#include <cstdint>
#include <span>
#include <vector>

#include "braid/base/error.h"
#include "braid/ops/tape.h"
#include "braid/stack/model.h"
#include "braid/train/data.h"
#include "braid/train/optim.h"

namespace braid {

struct GuardConfig {
  // A step whose gradient norm is not finite, or above `factor` times the median of the last
  // `window` norms, is left out. 0 turns the outlier part off.
  double factor = 20;
  int64_t window = 64;
};

struct StepResult {
  double loss = 0;  // nats per target, mean over the step
  int64_t targets = 0;
  int64_t target_bytes = 0;
  double grad_norm = 0;
  // What the gradients count beside `loss`, by name ("balance", "index"; ops/tape.h).
  Tape::Losses auxiliary;
  bool applied = false;  // false: left out by the guard
};

// A run whose steps are left out, one after the other.
class DivergedError : public Error {
 public:
  using Error::Error;
};

class Trainer {
 public:
  // Allocates gradients and optimizer state. `model` must outlive it.
  Trainer(const Context& ctx, Model& model, const OptimConfig& optim,
          const GuardConfig& guard = {});
  // Throws DivergedError(kBadInput) when the guard has left out so many steps in a row that the run
  // has diverged. Gradients are summed over the micro-batches and divided by the number of targets
  // of all of them.
  StepResult step(const Context& ctx, std::span<const TrainBatch> micro_batches, double lr_scale);
  Optimizer& optimizer() { return optimizer_; }
  // The guard's memory is part of a checkpoint: a resumed run leaves out the same steps.
  const std::vector<double>& recent_norms() const { return norms_; }
  void set_recent_norms(std::vector<double> norms) { norms_ = std::move(norms); }

 private:
  double norm_limit() const;
  Model& model_;
  Optimizer optimizer_;
  GuardConfig guard_;
  std::vector<double> norms_;  // of applied steps, oldest first
  int64_t left_out_ = 0;       // steps in a row
};

// Mean next-token loss over windows of held-out tokens.
struct Evaluation {
  double nats = 0;  // summed over targets
  int64_t targets = 0;
  int64_t bytes = 0;             // of text that the targets stand for
  double bits_per_byte() const;  // NaN without targets
  double nats_per_token() const;
  void add(const Evaluation& of_other_windows);
};
Evaluation evaluate(const Context& ctx, Model& model, std::span<const TrainBatch> windows);

}  // namespace braid
