#pragma once
// What stands before the names of a checkpoint's text model.

#include <span>
#include <string_view>

#include "braid/importers/tensor_source.h"

namespace braid {

std::span<const char* const> tensor_prefixes();  // the first is what is written
// The one before a tensor's name ("embed_tokens.weight"), or before "lm_head.weight"; null where
// the source has no such tensor.
const char* prefix_of(const TensorSource& source, std::string_view tail);
const char* head_prefix_of(const TensorSource& source);

}  // namespace braid
