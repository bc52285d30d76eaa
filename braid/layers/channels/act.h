#pragma once
// The `act` option of feed-forward layers.

#include <initializer_list>
#include <string_view>

#include "braid/ops/elementwise.h"

namespace braid {

// "silu", "gelu" (by erf), "gelu_tanh", "relu2" or "clamped" as one of `allowed`; throws
// Error(kUsage) that lists them.
Act read_act(std::string_view layer, std::string_view name, std::initializer_list<Act> allowed);

}  // namespace braid
