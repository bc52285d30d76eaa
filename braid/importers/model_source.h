#pragma once
// A model seen as the checkpoint it would be: the tensors of a family's table, made of parameters.

#include <memory>
#include <string>

#include "braid/importers/family.h"
#include "braid/importers/tensor_source.h"
#include "braid/stack/model.h"

namespace braid {

// The model and the map must outlive it. `path` is for messages.
std::unique_ptr<TensorSource> model_source(const Model& model, const TensorMap& map,
                                           std::string path);

}  // namespace braid
