#pragma once
// A sequence's state in a file (run_model.h) with a text of the caller's own beside it.

#include <string>

#include "braid/stack/model.h"

namespace braid {

void save_sequence(const std::string& path, const Model& model, const SequenceState& sequence,
                   const std::string& notes);
// Throws Error(kBadInput) for a state of another model, and for one that has no notes.
void load_sequence(const Context& ctx, const std::string& path, const Model& model,
                   SequenceState& sequence, std::string& notes);

}  // namespace braid
