#pragma once

#include <cstdint>
#include <string_view>

#include "braid/stack/model.h"

namespace braid {

// Byte-level settings for a stack expression; residual as in model.toml ("attnres").
ModelSettings bench_settings(std::string_view stack, std::string_view residual, int64_t width);

// Brings a state to `tokens` more tokens without running them: matrices and windows keep their
// content and count on, keys and values are filled with a constant. What a later token costs does
// not depend on the contents.
void pretend_context(const Context& ctx, SequenceState& sequence, int64_t tokens);

}  // namespace braid
