#pragma once
// A long list of layers as the short expression a person would write.

#include <vector>

#include "braid/stack/spec.h"

namespace braid {

// a, b, a, b, c, a, b, a, b, c -> 2 x (2 x (a, b), c): repeats are folded, the largest saving
// first. Flattened, it is the same list.
StackSpec compress(const std::vector<LayerSpec>& layers);

}  // namespace braid
