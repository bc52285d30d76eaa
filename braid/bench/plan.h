#pragma once
// What a model costs, before anything runs: the model itself is built and stepped on a dry context,
// so that the numbers come from the code that will run (core/arena.h, Mode::kDry).

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "braid/base/json.h"
#include "braid/bench/limits.h"
#include "braid/bench/type_shares.h"
#include "braid/infer/memory.h"
#include "braid/infer/positions.h"
#include "braid/kernels/quant/weight_type.h"
#include "braid/stack/settings.h"
#include "braid/state/state_options.h"
#include "braid/train/optim.h"

namespace braid {

struct PlanOptions {
  std::vector<int64_t> contexts = {1024, 4096, 16384, 65536, 131072};
  int64_t prefill = 2048;  // tokens whose prefill speed is predicted
  int64_t batch = 16;      // of a training step, as train's default
  int64_t seq_len = 512;
  int64_t accumulate = 1;
  bool recompute = false;
  bool use_muon = true;
  TrainedNames trained = {};              // of train's --train-only and --freeze
  StateOptions state = {};                // of the sequences
  WeightType weights = WeightType::kF32;  // as inference keeps them, or
  std::vector<WeightType> types = {};     // each parameter, as a checkpoint has them
  int threads = 0;
};

struct PlanContext {
  int64_t tokens = 0;
  size_t state_bytes = 0;
  size_t state_read_bytes = 0;  // of it and with repeats, by one more token (layers/layer.h)
  double decode_flops = 0;      // products of one token at this context
  MemoryNeed memory;  // of a process that read this context as a prompt and then writes a token
  double decode_seconds = 0;  // the larger of bytes / read bandwidth and flops / peak
};

// Bytes of tensors that training holds at most.
struct TrainingNeed {
  size_t weights = 0, gradients = 0, optimizer = 0;
  size_t activations = 0;  // and scratch, at their peak
  size_t total() const { return weights + gradients + optimizer + activations; }
};

struct PlanLayer {
  std::string name;
  std::string path;
  int64_t parameters = 0;
};

struct PlanParameter {
  std::string name;
  Shape shape;
  WeightType type = WeightType::kF32;  // as inference keeps it
  bool trained = true;                 // false: a buffer, which gradients do not reach
  std::string init;                    // how training begins: "normal(0, 0.02)"
};

struct Plan {
  std::string stack;       // canonical
  ModelSettings settings;  // resolved: what holds for all layers
  std::vector<PositionLayers> positions;
  std::string windows;  // of all that attend, in the order of the layers
  int64_t parameters = 0;
  int64_t active_parameters = 0;  // read for one token: experts counted top_k of all
  size_t weight_bytes = 0;
  size_t token_weight_bytes = 0;  // read for one decoded token
  size_t recurrent_bytes = 0;     // state that does not grow with the context
  // What one more token adds to a long context, keys and values kept in f32, bf16 and q8.
  double token_state_bytes[3] = {};
  size_t inference_weight_bytes = 0;  // of all weights as inference keeps them
  // Of all weights at --weights f32, bf16, q8 and q4.
  size_t typed_weight_bytes[4] = {};
  std::vector<PlanLayer> layers;
  std::vector<PlanParameter> list;  // all, in the order of the model
  std::vector<TypeShare> types;     // as inference keeps them
  double prefill_flops = 0;         // products of `prefill` tokens
  double prefill_seconds = 0;       // at the f32 peak
  std::vector<PlanContext> contexts;
  double train_flops = 0;    // products of one optimizer step, forward and backward
  double train_seconds = 0;  // at the f32 peak
  TrainingNeed train_need;
  size_t train_resident =
      0;  // the same plus what the process itself holds (code, libraries, their buffers)
  MachineLimits limits;
};

// Throws Error(kUsage) for more tokens than can be laid out as for settings that make no model.
Plan make_plan(const ModelSettings& settings, const PlanOptions& options,
               const MachineLimits& limits);
// Its stack and its parameters alone: list and types. Nothing is stepped or measured.
Plan list_plan(const ModelSettings& settings, const PlanOptions& options);
// The least time of one token at that context: its bytes at the memory's rates or its products at
// the peak, whichever is longer.
double decode_seconds(const Plan& plan, const PlanContext& c, const MachineLimits& limits);
// Of models that train in turns: weights, gradients and optimizer states of all, and the
// activations of one of them.
TrainingNeed training_need(std::span<const ModelSettings> models, const PlanOptions& options);
// f32 bytes of all parameters.
size_t weight_bytes(const ModelSettings& settings);
// Bytes that one token after such a context reads: its weights and of the states what it sees.
size_t read_bytes(const Plan& plan, const PlanContext& c);
// Names, shapes, types and beginnings of all parameters: what train's --freeze and --train-only
// are matched with.
Json parameters_json(const Plan& plan);
std::string parameters_text(const Plan& plan);
Json plan_json(const Plan& plan, const PlanOptions& options);
std::string plan_text(const Plan& plan, const PlanOptions& options);

}  // namespace braid
