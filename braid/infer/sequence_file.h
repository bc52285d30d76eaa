#pragma once
// A sequence's state in a file of its own, or with the notes of a chat beside it.

#include <string>

#include "braid/stack/model.h"

namespace braid {

void save_sequence(const std::string& path, const Model& model, const SequenceState& sequence);
// Throws Error(kBadInput) for a damaged file and for a state of another model; the sequence is then
// as it was.
void load_sequence(const Context& ctx, const std::string& path, const Model& model,
                   SequenceState& sequence);

// earlier: a state on the way to this one, or null.
void save_sequence(const std::string& path, const Model& model, const SequenceState& sequence,
                   const std::string& notes, const SequenceState* earlier);
// Refuses a state that has no notes too. earlier stays as it is where the file has none.
void load_sequence(const Context& ctx, const std::string& path, const Model& model,
                   SequenceState& sequence, std::string& notes, SequenceState& earlier);

}  // namespace braid
