#pragma once
// Softmax attention of tiles of 64 queries over the tiles of 64 keys that any of them attends to,
// each query to its own keys of them (MoBA, NSA). Arithmetic in f32.

#include <cstdint>

#include "braid/kernels/attention/tiles.h"

namespace braid {

// The tiles of keys of one tile of queries, rising: tiles[i], and for each of 64 queries the keys
// that it attends to, a bit each: seen[i * 64 + query].
struct ChosenKeys {
  const int32_t* tiles = nullptr;
  const uint64_t* seen = nullptr;
  int64_t count = 0;
};

// Floats of scratch for chosen_forward_tile over keys and values of `type`.
int64_t chosen_forward_scratch(const AttentionConfig& config, KvType type);

// `rows` <= 64 queries of one head, row stride ld_q; out row stride ld_out; lse[rows] = log2 of the
// softmax denominators (null: not wanted). A query without keys gets zeros and an infinite
// denominator.
void chosen_forward_tile(const AttentionConfig& config, int64_t kv_head, const float* q,
                         int64_t ld_q, int64_t rows, const KvView& kv, const ChosenKeys& keys,
                         float* out, int64_t ld_out, float* lse, float* scratch);

// One query head of a sequence and where its gradients go, as AttentionHead (backward.h).
struct ChosenHead {
  const float* q;
  int64_t ld_q;
  const float* out;
  const float* d_out;
  int64_t ld_out;
  const float* lse;
  float* d_q;
};

// Floats of scratch for chosen_backward over `keys` keys.
int64_t chosen_backward_scratch(const AttentionConfig& config, int64_t keys);

// The gradients of the query heads of one kv head of a sequence of `length` tokens over `count`
// keys: k and v rows with strides ld_k and ld_v, d_k and d_v likewise, written. lists: one for each
// tile of queries and head, [tiles][heads].
void chosen_backward(const AttentionConfig& config, int64_t length, int64_t count, const float* k,
                     int64_t ld_k, const float* v, int64_t ld_v, const ChosenHead* heads,
                     const ChosenKeys* lists, float* d_k, float* d_v, float* scratch);

}  // namespace braid
