#pragma once
// The tensors of a GGUF file as the Hugging Face checkpoint they were made from: names, shapes and
// order of rows are the checkpoint's, so that the families' tables fit. Tensors with no place in
// the model keep their own names; layers of multi-token prediction stand below "mtp.".

#include <memory>

#include "braid/formats/gguf.h"
#include "braid/importers/gguf_model.h"
#include "braid/importers/tensor_source.h"

namespace braid {

// Throws Error(kBadInput) for a tensor of another shape than the file's keys say.
std::unique_ptr<TensorSource> open_gguf_source(std::shared_ptr<const GgufFile> file,
                                               const GgufModel& model);

}  // namespace braid
