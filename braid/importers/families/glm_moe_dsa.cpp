// GLM-5: DeepSeek's sparse attention with index heads turned in adjacent pairs, and layers that
// take another one's choice.

#include "braid/importers/families/deepseek.h"

namespace braid {
namespace {

FamilyModel read(ConfigReader& c) {
  return read_deepseek(
      c, {.model =
              {.width = 6144, .layers = 78, .vocab = 154880, .max_positions = 202752, .eps = 1e-5},
          .heads = 64,
          .q_rank = 2048,
          .nope = 192,
          .value = 256,
          .dense_ffn = 12288,
          .router = {.groups = 1, .topk_groups = 1, .scale = 2.5},
          .indexer = IndexerDefaults{.heads = 32, .interleaved = true, .shared = true}});
}

}  // namespace

Family family_glm_moe_dsa() { return {"glm_moe_dsa", {"glm_moe_dsa"}, read}; }

}  // namespace braid
