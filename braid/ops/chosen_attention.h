#pragma once
// Softmax attention over runs of chosen keys (MoBA, NSA): in tiles of 64 queries and 64 keys, those
// that hold a chosen pair.

#include <span>
#include <vector>

#include "braid/kernels/attention/tiles.h"
#include "braid/ops/tape.h"

namespace braid {

// For every token and set the runs of positions [begin, end), rising and apart, that it attends to.
// Query head h of H reads set h / (H / sets).
struct KeyRuns {
  struct Run {
    int32_t begin, end;
  };
  int64_t sets = 1;
  std::vector<int64_t> starts;  // [T * sets + 1] into runs
  std::vector<Run> runs;
};
// Appends the lists of more tokens, of as many sets.
void append_runs(const KeyRuns& more, KeyRuns& to);

// q [T, H, d] of sequences q_starts over k [N, Hkv, d] and v [N, Hkv, dv] of sequences k_starts,
// all contiguous -> [T, H, dv]. runs are of the T tokens, in rows of their own sequence's keys;
// sets is 1, a multiple of the kv heads or one of their divisors, and divides H. A token without
// keys gets zeros. config has neither window, chunk, soft cap nor sinks. Recorded on the tape; no
// gradient flows into the choice.
Tensor chosen_attention(const Context& ctx, const AttentionConfig& config, const Tensor& q,
                        const Tensor& k, const Tensor& v, const KeyRuns& runs,
                        std::span<const int64_t> q_starts, std::span<const int64_t> k_starts);

// The same over kept keys and values of any type, in pages of one tile each (state/kv_state.h): q
// [n, H, d] contiguous, of one sequence -> [n, H, dv]; sets is a multiple of the kv heads. Up to
// kStepTokens tokens (step.h) take the decode kernel, each over the tiles that hold its keys. Not
// differentiable.
Tensor chosen_attention_kept(const Context& ctx, const AttentionConfig& config, const Tensor& q,
                             const KvView& kv, const KeyRuns& runs);

}  // namespace braid
