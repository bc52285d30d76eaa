#pragma once
// Channel mixers (feed-forward slots): layers/channels/<name>/, one line each in
// layers/channels/list.inc.

#include <span>

#include "braid/layers/layer.h"

namespace braid {

std::span<const LayerType> channel_types();
const LayerType* find_channel(std::string_view name);  // null when unknown

}  // namespace braid
