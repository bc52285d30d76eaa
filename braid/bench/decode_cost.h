#pragma once
// What one decoded token costs as the context grows.

#include <cstdint>
#include <vector>

#include "braid/stack/model.h"

namespace braid {

struct DecodeCost {
  int64_t context = 0;
  double ms = 0;  // median of one decoded token, batch 1
  size_t state_bytes = 0;
};

// States of these contexts are filled with random values, not computed: cost does not depend on
// content.
std::vector<DecodeCost> measure_decode(const Context& ctx, Model& model,
                                       std::span<const int64_t> contexts,
                                       double seconds_per_context = 0.5);

// Makes a fresh state one of `context` tokens that holds random values.
void fill_state(const Context& ctx, LayerState& state, int64_t context);

// A sequence of `context` tokens whose states hold random values.
SequenceState synthetic_sequence(const Context& ctx, const Model& model, int64_t context);

// The same stack with every mixer replaced by `gqa`: the peer that a hybrid is compared with.
ModelSettings attention_everywhere(ModelSettings settings);

}  // namespace braid
