#pragma once
// What the DeepSeek V3 line and GLM-5 share: latent attention, experts chosen within groups, the
// first layers dense. The layer behind the last one predicts the token after the next and is left
// out.

#include <optional>

#include "braid/importers/common.h"

namespace braid {

// The lightning indexer of sparse attention.
struct IndexerDefaults {
  int64_t heads = 64, head_dim = 128, top = 2048;
  bool interleaved = false;
  bool shared = false;  // a layer may take the choice of one before it (indexer_types)
};

struct DeepseekDefaults {
  ModelDefaults model;
  int64_t heads = 128, q_rank = 1536, nope = 128, value = 128;
  int64_t experts = 256, expert_ffn = 2048, dense_ffn = 18432;
  RouterDefaults router;
  std::optional<IndexerDefaults> indexer;  // none: attention over all keys
};
FamilyModel read_deepseek(ConfigReader& config, const DeepseekDefaults& defaults);

}  // namespace braid
