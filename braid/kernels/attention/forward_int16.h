#pragma once
// Attention of several tiles of queries at once in 16-bit integers (int16.h). forward.cpp chooses;
// nobody else calls it.

#include <span>

#include "braid/kernels/attention/forward.h"

namespace braid {

// Whether this machine and this config take it.
bool attention_in_int16(const AttentionConfig& config);

int64_t attention_int16_scratch(const AttentionConfig& config, KvType type, int64_t blocks);

// As attention_piece for every block, whose head has kv head `kv_head`: each tile of keys and
// values becomes integers once for all of them.
void attention_piece_in_int16(const AttentionConfig& config, int64_t kv_head,
                              std::span<const QueryBlock> blocks, int64_t ld_q, const KvView& kv,
                              int64_t first_tile, int64_t end_tile, float* scratch);

}  // namespace braid
