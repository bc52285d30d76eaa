#pragma once

#include <cstdint>
#include <span>

#include "braid/ops/tape.h"

namespace braid {

// y [T, D] = rows `ids` of table [V, D]. Throws Error(kBadInput) for an id outside [0, V).
Tensor embedding(const Context& ctx, std::span<const int32_t> ids, Parameter& table);

}  // namespace braid
