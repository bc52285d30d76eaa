#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "braid/stack/model.h"

namespace braid {

// Byte-level settings for a stack expression; residual as in model.toml ("attnres").
ModelSettings bench_settings(std::string_view stack, std::string_view residual, int64_t width);

// Brings a state to `tokens` more tokens without running them: matrices and windows keep their
// content and count on, keys and values are filled with a constant. What a later token costs does
// not depend on the contents.
void pretend_context(const Context& ctx, SequenceState& sequence, int64_t tokens);

struct DecodeCost {
  int64_t context = 0;      // tokens before
  double ms = 0;            // median of one more token, logits included
  int64_t state_bytes = 0;  // held at that context
};

// The cost of decoding at each of the contexts, which must ascend, with untrained weights.
std::vector<DecodeCost> measure_decode_costs(const Context& ctx, const ModelSettings& settings,
                                             std::span<const int64_t> contexts);

}  // namespace braid
