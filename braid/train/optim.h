#pragma once
// The optimizer of a training run: Muon on hidden matrices, AdamW on the rest
// (specs/objectives-and-precision.md section 7), with global-norm clipping. Bitwise equal results
// for any number of threads.

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "braid/core/context.h"
#include "braid/formats/safetensors.h"
#include "braid/ops/parameter.h"
#include "braid/train/optim_muon.h"

namespace braid {

// Which parameters a run trains, as patterns of their names (base/strings.h): those of `only` (none
// given: all) without those of `frozen`.
struct TrainedNames {
  std::vector<std::string> only, frozen;
};

// Marks what is not trained. Throws Error(kUsage) for a pattern that no parameter fits, and where
// nothing is left to train.
void freeze_parameters(ParameterSet& parameters, const TrainedNames& names);

struct OptimConfig {
  bool use_muon = true;             // false: AdamW for matrices too
  MuonSettings muon;                // kMoonlight by default: one lr for everything
  double lr = 2e-3;                 // peak; step() scales it by the schedule
  double embedding_lr_ratio = 1.0;  // lr of kEmbedding over lr
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;  // of kMatrix only
  double clip_norm = 1.0;     // of the gradients of all parameters together; 0 = no clipping
  TrainedNames trained = {};
};

// Throws Error(kUsage) for a setting out of its range.
void check_optim(const OptimConfig& config);

struct OptimStep {
  double grad_norm = 0;  // before clipping
  bool applied =
      false;  // false: the norm was not finite or above the limit, and nothing was changed
};

class Optimizer {
 public:
  // Freezes what is not trained and allocates zeroed state for the rest (buffers are left out).
  // `parameters` must outlive it. Throws Error(kUsage) for a setting out of its range.
  Optimizer(const Context& ctx, ParameterSet& parameters, const OptimConfig& config);

  // Updates every parameter from its grad with lr = config.lr * lr_scale. Gradients stay as they
  // are. A step whose gradient norm is NaN, infinite or above `skip_above` is not applied and not
  // counted.
  OptimStep step(const Context& ctx, double lr_scale,
                 double skip_above = std::numeric_limits<double>::infinity());

  int64_t steps() const { return steps_; }  // applied so far
  size_t state_bytes() const;
  double step_flops() const;  // of Muon's products in one step
  const OptimConfig& config() const { return config_; }

  // State as tensors "adam_m.NAME", "adam_v.NAME", "momentum.NAME", "second_moment.NAME" and
  // metadata "steps".
  void save(SafetensorsWriter& out) const;
  // Throws Error(kBadInput) listing what is missing, left over or of another shape; nothing is
  // changed then.
  void load(const SafetensorsFile& in);

 private:
  struct Slot {
    Parameter* parameter;
    bool muon;
    Tensor first;  // Adam's m or Muon's momentum, shaped as the parameter
    Tensor
        second;  // Adam's v; Muon's second moments one after the other (kNanochat), else undefined
  };
  struct Chunk {  // a range of elements of one parameter
    size_t slot;
    int64_t begin, end;
  };
  struct NamedTensor {
    std::string name;
    Tensor tensor;
  };
  double gradient_norm(const Context& ctx) const;
  void step_adam(const Context& ctx, double lr, float grad_scale);
  void step_muon(const Context& ctx, double lr, float grad_scale);
  void add_muon_matrices(size_t slot);
  MuonMatrix matrix(size_t index) const;
  std::vector<NamedTensor> state() const;

  struct MuonJob {
    size_t slot;
    int64_t offset;         // first element in the parameter
    int64_t second_offset;  // first element in the slot's second moments
    int64_t rows, cols;
  };
  OptimConfig config_;
  std::vector<Slot> slots_;
  std::vector<Chunk> chunks_;  // of all slots, in order
  std::vector<MuonJob> jobs_;  // costliest first
  int64_t steps_ = 0;
};

}  // namespace braid
