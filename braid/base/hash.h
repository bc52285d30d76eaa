#pragma once

#include <cstdint>
#include <string_view>

namespace braid {

// 64-bit FNV-1a: stable across machines and versions, for names and cache keys (not for security).
constexpr uint64_t fnv1a(std::string_view text, uint64_t seed = 0xcbf29ce484222325ULL) {
  uint64_t h = seed;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return h;
}

}  // namespace braid
