#pragma once
// What states of fixed size share.

#include <string>
#include <string_view>

#include "braid/core/tensor.h"

namespace braid {

// Copies the values of a contiguous tensor into one of the same shape. Nothing on a dry arena.
void copy_values(const Tensor& from, const Tensor& into, bool dry);
void zero_values(const Tensor& into, bool dry);

// A prefix ends in its own separator: "layers.3." + "window".
std::string state_name(std::string_view prefix, std::string_view name);

}  // namespace braid
