#pragma once
// Rows into panels (weight_type.h) and back. A panel is filled row by row, `lane` 0 to 15; its
// memory is zeroed first, so that missing rows have zero scales.

#include <cstddef>
#include <cstdint>

#include "braid/kernels/quant/weight_type.h"

namespace braid {

// f32 rounded to the type. q8: scale = largest magnitude / 127, or that of the Q4_0 block that
// the numbers come from, which then stay exact. q4: the scale among a few near
// (value of largest magnitude) / -8 with the least squared error. q4min: the range of each block,
// scales and minima in 6 bits of the super-block's largest. Scales are rounded to f16 first and the
// numbers then chosen for the rounded scale. NaN becomes NaN for its block.
void pack_row(WeightType type, const float* x, int64_t cols, int lane, std::byte* panel);

// Blocks as GGUF stores them, without loss: Q8_0 to q8, Q4_0 to q4, Q4_K to q4min. `row` needs no
// alignment.
void repack_row(WeightType type, const std::byte* row, int64_t cols, int lane, std::byte* panel);
constexpr int64_t ggml_row_bytes_of(WeightType type, int64_t cols) {
  return type == WeightType::kQ8   ? cols / 32 * 34
         : type == WeightType::kQ4 ? cols / 32 * 18
                                   : cols / 256 * 144;
}

// The values of one row.
void unpack_row(WeightType type, const std::byte* panel, int64_t cols, int lane, float* out);

}  // namespace braid
