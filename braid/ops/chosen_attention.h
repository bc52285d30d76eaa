#pragma once
// Softmax attention over runs of chosen keys, for training: in tiles of 64 queries and 64 keys,
// those that hold a chosen pair (MoBA, NSA).

#include "braid/ops/selected_attention.h"

namespace braid {

// q [T, H, d] of sequences q_starts over k [N, Hkv, d] and v [N, Hkv, dv] of sequences k_starts,
// all contiguous -> [T, H, dv]. runs are of the T tokens, in rows of their own sequence's keys;
// sets is 1, a multiple of the kv heads or one of their divisors, and divides H. A token without
// keys gets zeros. config has neither window, chunk, soft cap nor sinks. Recorded on the tape; no
// gradient flows into the choice.
Tensor chosen_attention(const Context& ctx, const AttentionConfig& config, const Tensor& q,
                        const Tensor& k, const Tensor& v, const KeyRuns& runs,
                        std::span<const int64_t> q_starts, std::span<const int64_t> k_starts);

}  // namespace braid
