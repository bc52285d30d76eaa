#pragma once
// The tensors of a Hugging Face folder: model.safetensors, or the shards its index names; fp8 with
// block scales and gpt-oss's MXFP4 appear as the tensors they stand for.

#include <memory>
#include <string>

#include "braid/importers/tensor_source.h"

namespace braid {

// Throws Error(kBadInput) for a folder without weights, a tensor that its shard lacks or that no
// scale fits. fp8_block: rows and columns that share a scale.
std::unique_ptr<TensorSource> open_safetensors_source(const std::string& folder,
                                                      int64_t fp8_block = 128);
bool has_safetensors(const std::string& folder);

}  // namespace braid
