#pragma once

#include <memory>
#include <string>

#include "braid/importers/load.h"
#include "braid/infer/drafter.h"

namespace braid {

// The drafter that --draft (a model's folder) or --draft-ngram asks for, and what it lives on.
struct Draft {
  LoadedModel model;
  std::unique_ptr<Drafter> drafter;  // null: none
};
// Throws Error(kUsage) when both are given or the vocabularies differ.
Draft make_draft(const Context& ctx, const std::string& folder, int64_t ngram, const Model& target,
                 const LoadOptions& load);

}  // namespace braid
