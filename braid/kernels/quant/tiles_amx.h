#pragma once
// quant_tiles on a machine with matrix tiles. quant_kernel.cpp chooses; nobody else calls it.

#include <cstddef>
#include <cstdint>

namespace braid {

// As quant_tiles (quant.h), with tiles of kQuantMatrixRows rows and a pair of signed numbers.
// `minima`: the weights are q4min.
void quant_tiles_amx(bool minima, const std::byte* pair, int64_t cols, const std::byte* tiles,
                     int64_t rows, int64_t outs, float* y, int64_t ldy, float* sums);

}  // namespace braid
