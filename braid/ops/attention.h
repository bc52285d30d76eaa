#pragma once
// Causal softmax attention over ragged sequences: multi-head, grouped (arXiv 2305.13245) or
// multi-query (1911.02150), with an optional sliding window, chunks, soft cap, sinks and forget
// gates (2503.02130). Blocked online softmax (2205.14135): nothing of size T x T.

#include <span>

#include "braid/kernels/attention/tiles.h"
#include "braid/ops/tape.h"

namespace braid {

// Every sequence starts at position 0. q [T, Hq, d], k [T, Hkv, d], v [T, Hkv, dv] -> [T, Hq, dv];
// sequence s owns rows [seq_starts[s], seq_starts[s + 1]). Rows may be strided; q may also be given
// as [T * Hq, d] with strided rows (a slice of a fused projection). Query head h reads kv head
// h / (Hq / Hkv). `sinks` [Hq] (null: none) is what config.sinks points to. `log_forget` [T, Hq]
// (undefined: none) are logarithms of gates: the score of i and j gains those after j up to i; then
// there are neither sinks nor a soft cap. Recorded on the tape.
Tensor attention(const Context& ctx, const AttentionConfig& config, const Tensor& q,
                 const Tensor& k, const Tensor& v, std::span<const int64_t> seq_starts,
                 Parameter* sinks = nullptr, const Tensor& log_forget = {});

// The same for sequences whose keys and values are kept: past[s] holds all of sequence s, the new
// tokens included, so that the new tokens are its last seq_starts[s + 1] - seq_starts[s] positions.
// Not differentiable. A sequence with one new token takes the decode kernel. Forget gates are those
// that the views hold (KvLayout::decay_heads).
Tensor attention_cached(const Context& ctx, const AttentionConfig& config, const Tensor& q,
                        std::span<const int64_t> seq_starts, std::span<const KvView> past,
                        const Parameter* sinks = nullptr);

struct AttentionGrads {
  Tensor q, k, v;     // of the shapes of their operands, contiguous
  Tensor log_forget;  // undefined without forget gates
};

// Gradients of attention() from its output and lse [Hq, T], the base-2 logarithms of the softmax
// denominators; that of the sinks is added to their parameter.
AttentionGrads attention_backward(const Context& ctx, const AttentionConfig& config,
                                  const Tensor& q, const Tensor& k, const Tensor& v,
                                  const Tensor& out, const Tensor& lse, const Tensor& d_out,
                                  std::span<const int64_t> seq_starts, Parameter* sinks = nullptr,
                                  const Tensor& log_forget = {});

// Products of q k^T and p v of all heads for `tokens` new queries after `past` earlier ones:
// 2 (d + dv) per visible pair.
double attention_flops(const AttentionConfig& config, int64_t past, int64_t tokens);

// Whether it takes a library's products on this machine, with its buffers.
bool attention_needs_library(const AttentionConfig& config);

}  // namespace braid
