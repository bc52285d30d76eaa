#include "braid/layers/channel.h"
#include "braid/layers/mixer.h"
#include "braid/stack/settings.h"

namespace braid {

std::vector<KnownLayer> known_layers() {
  std::vector<KnownLayer> out;
  for (const LayerType& type : mixer_types()) out.push_back({type.name, LayerKind::kMixer});
  for (const LayerType& type : channel_types()) out.push_back({type.name, LayerKind::kChannel});
  return out;
}

}  // namespace braid
