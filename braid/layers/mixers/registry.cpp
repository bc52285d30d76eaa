#include <vector>

#include "braid/layers/mixer.h"

namespace braid {

#define BRAID_MIXER(name, summary) \
  std::unique_ptr<Layer> make_##name(const Options&, const LayerEnv&, ParamBuilder&);
#include "braid/layers/mixers/list.inc"
#undef BRAID_MIXER

std::span<const LayerType> mixer_types() {
  static const std::vector<LayerType> types = {
#define BRAID_MIXER(name, summary) {#name, summary, make_##name},
#include "braid/layers/mixers/list.inc"
#undef BRAID_MIXER
  };
  return types;
}

const LayerType* find_mixer(std::string_view name) {
  for (const LayerType& t : mixer_types()) {
    if (name == t.name) return &t;
  }
  return nullptr;
}

}  // namespace braid
