#pragma once

#include <memory>
#include <string>

#include "braid/core/context.h"
#include "braid/stack/model.h"

namespace braid {

// The model of a run or checkpoint folder, weights loaded. Throws Error(kBadInput) with what is
// wrong where.
std::unique_ptr<Model> load_run_model(const Context& ctx, const std::string& folder);

// Text goes in and out as bytes: throws Error(kUsage) for a model with another vocabulary.
void require_bytes(const ModelSettings& model);

void save_sequence(const std::string& path, const Model& model, const SequenceState& sequence);
// Throws Error(kBadInput) for a state of another stack.
void load_sequence(const Context& ctx, const std::string& path, const Model& model,
                   SequenceState& sequence);

}  // namespace braid
