#pragma once
// Attention of several tiles of queries at once by matrix tiles (gemm/parts.h). forward.cpp
// chooses; nobody else calls it.

#include <span>

#include "braid/kernels/attention/forward.h"

namespace braid {

// Whether this machine and these sizes take it.
bool attention_by_parts(const AttentionConfig& config);

int64_t attention_parts_scratch(const AttentionConfig& config, int64_t blocks);

// As attention_piece for every block, whose head has kv head `kv_head`: each tile of keys and
// values is split once for all of them.
void attention_piece_by_parts(const AttentionConfig& config, int64_t kv_head,
                              std::span<const QueryBlock> blocks, int64_t ld_q, const KvView& kv,
                              int64_t first_tile, int64_t end_tile, float* scratch);

}  // namespace braid
