#pragma once
// Widths of feed-forward layers that leave them to the model: 8/3 of its own, in whole kernels.

#include <algorithm>
#include <cstdint>

namespace braid {

inline int64_t default_ffn(int64_t width) { return ((8 * width + 2) / 3 + 63) / 64 * 64; }
// Of each expert, top_k of which share that width.
inline int64_t default_expert_ffn(int64_t width, int64_t top_k) {
  return std::max<int64_t>(1, ((8 * width + 2) / 3 / top_k + 31) / 32) * 32;
}

}  // namespace braid
