#pragma once
// Gradients of causal softmax attention for one head of one sequence, probabilities recomputed from
// the saved denominators (2205.14135): five products per pair of tiles, nothing of size T x T.

#include <cstdint>

#include "braid/kernels/attention/tiles.h"

namespace braid {

// Floats of scratch for a sequence of `length` tokens.
int64_t attention_backward_scratch(const AttentionConfig& config, int64_t length);

// One query head and its kv head; each pointer is at its first row and has its row stride. q, k and
// their gradients are [length, d], out, v and theirs [length, dv], lse is [length].
struct AttentionHead {
  const float* q;
  int64_t ld_q;
  const float* out;
  const float* d_out;
  int64_t ld_out;
  const float* k;
  int64_t ld_k;
  const float* v;
  int64_t ld_v;
  const float* lse;  // log2 of the softmax denominators, from the forward pass
  float* d_q;
  int64_t ld_dq;
  float* d_k;  // of this query head alone: with grouped heads the caller sums
  int64_t ld_dk;
  float* d_v;
  int64_t ld_dv;
  float sink;  // this head's, and where its gradient goes; null: no sink
  float* d_sink;
  // Logarithms of the forget gates and their gradient, both with stride ld_f; null: none. With them
  // there are neither sinks nor a soft cap.
  const float* log_f;
  float* d_log_f;
  int64_t ld_f;
};

// Writes d_q, d_k, d_v and d_sink of a sequence that starts at position 0.
void attention_backward_head(const AttentionConfig& config, int64_t length,
                             const AttentionHead& head, float* scratch);

}  // namespace braid
