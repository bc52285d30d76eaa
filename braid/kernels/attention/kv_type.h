#pragma once

#include <cstdint>

namespace braid {

// How kept keys, values and latents are stored. kQ8: int8 with f32 scales, 1/127 of the largest of
// the values that share one.
enum class KvType : uint8_t { kF32, kBF16, kQ8 };

constexpr int64_t kv_element_bytes(KvType type) {
  return type == KvType::kF32 ? 4 : type == KvType::kBF16 ? 2 : 1;
}

}  // namespace braid
