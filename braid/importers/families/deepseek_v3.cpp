// DeepSeek V3, V3.1 and R1, Kimi K2: latent attention over all keys.

#include "braid/importers/families/deepseek.h"

namespace braid {
namespace {

FamilyModel read(ConfigReader& c) {
  return read_deepseek(
      c, {.model = {.width = 7168, .layers = 61, .vocab = 129280, .max_positions = 4096},
          .router = {.groups = 8, .topk_groups = 4, .scale = 2.5},
          .indexer = {}});
}

}  // namespace

Family family_deepseek_v3() { return {"deepseek_v3", {"deepseek_v3", "kimi_k2"}, read}; }

}  // namespace braid
