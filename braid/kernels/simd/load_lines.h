#pragma once

#include <cstddef>
#include <cstdint>

namespace braid {

// Loads the cache lines of p[0, bytes) one after the other. Machines fetch memory ahead only where
// it is read in order: a kernel that needs a part of every row first and the others later loads
// rows with this as it comes to them, or gets half the read bandwidth.
inline void load_lines(const void* p, int64_t bytes) {
  constexpr int64_t kLine = 64;
  for (int64_t i = 0; i < bytes; i += kLine) (void)static_cast<const volatile std::byte*>(p)[i];
}

}  // namespace braid
