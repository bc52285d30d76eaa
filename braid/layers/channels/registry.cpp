#include <vector>

#include "braid/layers/channel.h"

namespace braid {

#define BRAID_CHANNEL(name, summary) \
  std::unique_ptr<Layer> make_##name(const Options&, const LayerEnv&, ParamBuilder&);
#include "braid/layers/channels/list.inc"
#undef BRAID_CHANNEL

std::span<const LayerType> channel_types() {
  static const std::vector<LayerType> types = {
#define BRAID_CHANNEL(name, summary) {#name, summary, make_##name},
#include "braid/layers/channels/list.inc"
#undef BRAID_CHANNEL
  };
  return types;
}

const LayerType* find_channel(std::string_view name) {
  for (const LayerType& t : channel_types()) {
    if (name == t.name) return &t;
  }
  return nullptr;
}

}  // namespace braid
