// Any bytes are either an index or a braid::Error.

#include <cstddef>
#include <cstdint>

#include "braid/base/error.h"
#include "braid/formats/safetensors_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    braid::SafetensorsIndex::parse({reinterpret_cast<const char*>(data), size}, "fuzz");
  } catch (const braid::Error&) {
  }
  return 0;
}
