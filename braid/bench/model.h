#pragma once

#include <cstdint>
#include <string_view>

#include "braid/stack/settings.h"

namespace braid {

// Byte-level settings for a stack expression; residual as in model.toml ("attnres").
inline ModelSettings bench_settings(std::string_view stack, std::string_view residual,
                                    int64_t width) {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = width;
  s.residual = parse_named(residual, "residual");
  return s;
}

}  // namespace braid
