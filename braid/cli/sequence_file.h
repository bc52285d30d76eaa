#pragma once
// A sequence's state in a file (run_model.h) with a text of the caller's own beside it.

#include <string>

#include "braid/stack/model.h"

namespace braid {

// earlier: a state on the way to this one, or null.
void save_sequence(const std::string& path, const Model& model, const SequenceState& sequence,
                   const std::string& notes, const SequenceState* earlier);
// Throws Error(kBadInput) for a state of another model, and for one that has no notes. earlier
// stays as it is where the file has none.
void load_sequence(const Context& ctx, const std::string& path, const Model& model,
                   SequenceState& sequence, std::string& notes, SequenceState& earlier);

}  // namespace braid
