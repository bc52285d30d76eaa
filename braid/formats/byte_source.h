#pragma once
// Bytes that are made while they are written, so that a converted checkpoint never stands in memory
// whole.

#include <cstddef>
#include <cstdint>
#include <functional>

#include "braid/base/function_ref.h"

namespace braid {

using ByteSink = FunctionRef<void(const void* data, size_t bytes)>;
// Gives all bytes of one tensor to the sink, in pieces of any size. Called once.
using ByteSource = std::function<void(ByteSink)>;

// Told how many bytes are done of all, while tensors are read or written. May be empty.
using ByteProgress = std::function<void(uint64_t done, uint64_t all)>;

}  // namespace braid
