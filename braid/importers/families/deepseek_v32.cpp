// DeepSeek V3.2: V3 over the keys that a lightning indexer chooses, whose heads turn halves with
// halves.

#include "braid/importers/families/deepseek.h"

namespace braid {
namespace {

FamilyModel read(ConfigReader& c) {
  return read_deepseek(
      c, {.model = {.width = 7168, .layers = 61, .vocab = 129280, .max_positions = 163840},
          .router = {.groups = 8, .topk_groups = 4, .scale = 2.5},
          .indexer = IndexerDefaults{}});
}

}  // namespace

Family family_deepseek_v32() { return {"deepseek_v32", {"deepseek_v32"}, read}; }

}  // namespace braid
