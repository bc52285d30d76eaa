// Any bytes either parse into values and tensors that can all be read, or throw braid::Error.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "braid/base/error.h"
#include "braid/base/json.h"
#include "braid/formats/gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const braid::GgufFile file =
        braid::GgufFile::parse(nullptr, {reinterpret_cast<const std::byte*>(data), size}, "fuzz");
    for (const auto& [key, value] : file.values()) value.json();
    for (const braid::GgufTensor& t : file.tensors()) {
      if (t.row() == 0 || t.row() > 1 << 20) continue;
      std::vector<float> row(static_cast<size_t>(t.row()));
      try {
        for (int64_t r = 0; r < t.count() / t.row(); ++r) file.decode(t, r, 1, row.data());
      } catch (const braid::Error&) {
      }
    }
  } catch (const braid::Error&) {
  }
  return 0;
}
