// Any bytes either parse into tensors that can all be read, or throw braid::Error.

#include <cstddef>
#include <cstdint>

#include "braid/base/error.h"
#include "braid/formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const braid::Context ctx;
  try {
    const braid::SafetensorsFile file = braid::SafetensorsFile::parse(
        nullptr, {reinterpret_cast<const std::byte*>(data), size}, "fuzz");
    for (const braid::SafetensorsEntry& e : file.entries()) {
      try {
        file.to_f32(ctx, e.name);
        file.tensor(e.name);
        file.to_i64(e.name);
      } catch (const braid::Error&) {
      }
    }
  } catch (const braid::Error&) {
  }
  return 0;
}
