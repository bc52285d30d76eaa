#pragma once

#include <string>

namespace braid {

// Throws Error(kBadInput) for a path that holds no model in any form, naming what stands there
// instead (a folder of GGUF files, weights without their config.json, a text called .gguf) and what
// to do. Whether the model is whole and right is for those who open it.
void require_model(const std::string& path);

}  // namespace braid
