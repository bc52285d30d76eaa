#pragma once

#include <cstdint>

namespace braid {

// A sequence that brings up to so many tokens into states is computed as so many calls of one token
// would compute it, bit for bit. Drafted tokens are verified in passes of this size, so that
// drafting cannot change a result; one pass reads the weights once.
constexpr int64_t kStepTokens = 4;

}  // namespace braid
