#pragma once

#include <string_view>

namespace braid {

// What config.json calls the class of a model_type, "LlamaForCausalLM"; of those that are written.
const char* architecture_of(std::string_view model_type);

}  // namespace braid
