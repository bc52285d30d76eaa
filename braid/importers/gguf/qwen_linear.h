#pragma once
// What Qwen3-Next and Qwen3.5 say alike of their linear layers.

#include "braid/importers/gguf_architecture.h"

namespace braid {

// Which layers attend, and the heads, channels and taps of the others.
void qwen_linear_settings(GgufExchange& x, GgufModel& m);

}  // namespace braid
