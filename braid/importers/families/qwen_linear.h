#pragma once
// What Qwen3-Next and Qwen3.5 share: three Gated DeltaNet layers, then gated attention.

#include "braid/importers/common.h"

namespace braid {

struct QwenLinear {
  GqaSettings gqa;
  LayerSpec gdn;
  int64_t key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
  std::vector<bool> full;  // of every layer
  LayerSpec mixer(int64_t layer, const ModelSettings& settings) const;
};
// After read_model; the classes differ in the number of heads of keys and values.
QwenLinear read_qwen_linear(ConfigReader& config, FamilyModel& model, int64_t kv_heads);

}  // namespace braid
