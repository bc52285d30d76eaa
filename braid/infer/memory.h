#pragma once
// What a process that runs a model holds, before it runs: the model itself is stepped on dry
// memory, so that the bytes come from the code that will run. `plan` prints it and --mem is held
// against it.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "braid/ops/weight.h"
#include "braid/stack/model.h"
#include "braid/state/state_options.h"

namespace braid {

// What a process holds beside tensors: code, the libraries' kernels and packing buffers, thread
// stacks. Measured: resident memory minus tensor bytes of runs from 40 MB to 2 GB (docs/log.md).
constexpr size_t kProcessBytes = size_t{30} << 20;
// The same where all products are of braid's own kernels, which need no library's buffers.
constexpr size_t kOwnProcessBytes = size_t{14} << 20;

struct MemoryNeed {
  size_t weights = 0;  // mapped ones too
  size_t state = 0;    // after all tokens
  size_t scratch = 0;  // activations and scratch of products, as the arena keeps them
  size_t process = kProcessBytes;
  size_t tensors() const { return weights + state + scratch; }
  size_t resident() const { return tensors() + process; }
};

// One sequence: a prompt in chunks, then tokens one by one.
struct Workload {
  int64_t prompt = 1;
  int64_t decode = 1;
  StateOptions state = {};
  size_t results = 0;  // bytes the caller keeps beside, counted as scratch
};

// The type each parameter is kept in, in the order of Model::parameters.
std::vector<WeightType> weight_types(const Model& model);
std::vector<WeightType> weight_types(const Model& model, WeightType wanted);  // were it asked for

// Of one thread count, for scratch is per thread. Lengths past a model's learned positions are cut.
MemoryNeed inference_memory(int threads, const ModelSettings& settings,
                            std::span<const WeightType> types, const Workload& work);

}  // namespace braid
