#pragma once

#include <cstddef>
#include <cstdint>

namespace braid {

enum class DType : uint8_t { kF32, kBF16, kI32, kI64, kU8 };

constexpr size_t dtype_size(DType t) {
  switch (t) {
    case DType::kF32:
      return 4;
    case DType::kBF16:
      return 2;
    case DType::kI32:
      return 4;
    case DType::kI64:
      return 8;
    case DType::kU8:
      return 1;
  }
  return 0;
}

const char* dtype_name(DType t);  // "f32", "bf16", ...

}  // namespace braid
