#pragma once
// Blocks of tokens, which may overlap, of a ragged batch (KvBlocks in kernels/attention/tiles.h).
// Sequence s owns rows [seq_starts[s], seq_starts[s + 1]); the blocks of all sequences lie end to
// end, whole ones only. Both functions are recorded on the tape.

#include <span>

#include "braid/kernels/attention/tiles.h"
#include "braid/ops/tape.h"

namespace braid {

// x [T, H, d] -> [N, H, block * d]: of every block and head its rows side by side.
Tensor unfold_blocks(const Context& ctx, const Tensor& x, std::span<const int64_t> seq_starts,
                     KvBlocks blocks);

// x [T, H, d] -> [N, H, d]: the mean of every block, added up in the order of its rows.
Tensor block_means(const Context& ctx, const Tensor& x, std::span<const int64_t> seq_starts,
                   KvBlocks blocks);

}  // namespace braid
