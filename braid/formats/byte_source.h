#pragma once
// Bytes that are made while they are written, so that a converted checkpoint never stands in memory
// whole.

#include <cstddef>
#include <functional>

#include "braid/base/function_ref.h"

namespace braid {

using ByteSink = FunctionRef<void(const void* data, size_t bytes)>;
// Gives all bytes of one tensor to the sink, in pieces of any size. Called once.
using ByteSource = std::function<void(ByteSink)>;

}  // namespace braid
