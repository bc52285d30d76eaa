#pragma once
// The recurrence of delta.h one step at a time: decode, and sequences too short for a chunk. Bound
// by moving the state once from and once to memory.

#include <cstdint>

#include "braid/kernels/delta/delta.h"

namespace braid {

// Floats of scratch that delta_step needs.
constexpr int64_t delta_step_scratch(int64_t key_dim) { return 4 * (key_dim + 16); }

// Products per micro-step, 1 multiply-add = 2.
constexpr double delta_step_flops(int64_t key_dim, int64_t value_dim, DeltaErase erase) {
  const double products = erase == DeltaErase::kNone ? 4 : erase == DeltaErase::kPair ? 8 : 6;
  return products * static_cast<double>(key_dim * value_dim);
}

// All tokens of h in order; state [K, V] in place, o [tokens, V].
void delta_step(const DeltaHead<float>& h, float* state, DeltaRows<float> o, float* scratch);

}  // namespace braid
