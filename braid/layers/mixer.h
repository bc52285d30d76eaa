#pragma once
// Sequence mixers: layers/mixers/<name>/, one line each in layers/mixers/list.inc.

#include <span>

#include "braid/layers/layer.h"

namespace braid {

std::span<const LayerType> mixer_types();
const LayerType* find_mixer(std::string_view name);  // null when unknown

}  // namespace braid
