#pragma once

#include <string>
#include <vector>

#include "braid/train/trainer.h"

namespace braid {

// The mean loss over windows of text, with a progress line once it takes over two seconds.
Evaluation evaluate_shown(const Context& ctx, Model& model, const std::vector<TrainBatch>& windows,
                          const std::string& what = "evaluating");

}  // namespace braid
