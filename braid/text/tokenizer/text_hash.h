#pragma once
// A fast 64-bit hash of short texts for tables in memory (never written to files).

#include <cstdint>
#include <cstring>
#include <string_view>

namespace braid {

inline uint64_t mix_bits(uint64_t h) {
  h ^= h >> 32;
  h *= 0x9E3779B97F4A7C15ULL;
  return h ^ (h >> 29);
}

inline uint64_t text_hash(std::string_view text) {
  uint64_t h = text.size() * 0xD6E8FEB86659FD93ULL;
  size_t n = text.size();
  const char* p = text.data();
  uint64_t word;
  for (; n >= 8; n -= 8, p += 8) {
    std::memcpy(&word, p, 8);
    h = mix_bits(h ^ word) * 0xFF51AFD7ED558CCDULL;
  }
  word = 0;
  if (n >= 4) {
    uint32_t low, high;  // overlapping
    std::memcpy(&low, p, 4);
    std::memcpy(&high, p + n - 4, 4);
    word = static_cast<uint64_t>(high) << 32 | low;
  } else if (n > 0) {
    word = static_cast<uint64_t>(static_cast<uint8_t>(p[0])) << 16 |
           static_cast<uint64_t>(static_cast<uint8_t>(p[n / 2])) << 8 |
           static_cast<uint64_t>(static_cast<uint8_t>(p[n - 1]));
  }
  return mix_bits(h ^ word);
}

}  // namespace braid
