#pragma once
// What reader, writer and values of GGUF share.

#include <cstddef>

#include "braid/formats/gguf.h"

namespace braid {

size_t gguf_kind_bytes(GgufKind kind);  // of one number; 0 for strings and arrays
const char* gguf_kind_name(GgufKind kind);

constexpr char kGgufMagic[4] = {'G', 'G', 'U', 'F'};
constexpr size_t kGgufMaxName = 64;
constexpr size_t kGgufMaxDims = 4;

}  // namespace braid
