#pragma once
// Which blocks of its past a token attends to (MoBA, arXiv 2502.13189; NSA, 2502.11089). Blocks of
// `block` positions: block b holds positions [b * block, (b + 1) * block). No gradient flows
// through a choice.

#include "braid/kernels/attention/latent.h"
#include "braid/kernels/attention/tiles.h"
#include "braid/ops/chosen_attention.h"
#include "braid/ops/selected_attention.h"

namespace braid {

// MoBA, for queries q [n, H, d] at positions first, first + 1, ...: one list a token and head
// [n * H], the token's own block and, of those before it, the top - 1 whose mean key has the
// largest product with the query; of equal ones the earlier. means: a row [Hkv, d] for every whole
// block.
std::vector<Chosen> choose_similar_blocks(const Context& ctx, const Tensor& q, int64_t first,
                                          const LatentView& means, int64_t kv_heads, int64_t block,
                                          int64_t top);

// NSA's blocks that are chosen whatever their importance: the first, the token's own, the one
// before.
constexpr int64_t kAlwaysChosen = 3;

// NSA, for the same queries: one list a token and kv head [n * Hkv] of `top` >= kAlwaysChosen
// blocks. The others are the most important, of equal ones the earlier. A block's importance is the
// probability that the query heads of the kv head give to compressed blocks, each shared out over
// the strides that it covers (eq. 8 to 10). compressed: a key for every block of `blocks`, as far
// as the last query sees them whole; blocks.stride divides blocks.block <= block, and block.
std::vector<Chosen> choose_important_blocks(const Context& ctx, const AttentionConfig& config,
                                            const Tensor& q, int64_t first,
                                            const KvView& compressed, KvBlocks blocks,
                                            int64_t block, int64_t top);

// The positions of the lists' blocks, as far as their own token; list i is of the token at position
// first + i / sets.
KeyRuns runs_of_blocks(const std::vector<Chosen>& lists, int64_t sets, int64_t first,
                       int64_t block);

}  // namespace braid
