#pragma once
// What Gemma 2 and 3 share: norms of 1 + w on both sides of a layer, scaled embeddings, GELU.

#include "braid/importers/common.h"

namespace braid {

struct GemmaParts {
  GqaSettings gqa;
  LayerSpec channel;
};
GemmaParts read_gemma(ConfigReader& config, int64_t default_vocab, int64_t default_positions,
                      FamilyModel& model);
std::vector<TensorRow> gemma_table();

}  // namespace braid
