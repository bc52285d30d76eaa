#pragma once
// A fuzzer's bytes as a script that edits a good file. A search that begins at good files damages
// what lies behind their headers, digests and cross-references, which bytes from nothing seldom
// reach.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

namespace braid::testing {

// The bytes in order; zeros behind their end.
class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool empty() const { return at_ == end_; }
  uint8_t byte() { return empty() ? 0 : *at_++; }
  // Small, or anything that 64 bits hold.
  int64_t number() {
    if (byte() < 128) return static_cast<int8_t>(byte());
    uint64_t n = 0;
    for (int i = 0; i < 8; ++i) n = n << 8 | byte();
    return static_cast<int64_t>(n);
  }
  std::string text(size_t n) {
    n = std::min(n, static_cast<size_t>(end_ - at_));
    at_ += n;
    return {reinterpret_cast<const char*>(at_) - n, n};
  }

 private:
  const uint8_t *at_, *end_;
};

// One edit within the first 64 KiB: a bit flipped, bytes overwritten, a piece replaced by another,
// the rest cut off.
inline void edit(FuzzInput& input, std::string& bytes) {
  const size_t what = input.byte();
  size_t at = input.byte();
  at = std::min(at << 8 | input.byte(), bytes.size());
  switch (what % 4) {
    case 0:
      if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << (what / 4 % 8)));
      return;
    case 1:
      for (const char c : input.text(input.byte() % 16)) {
        if (at < bytes.size()) bytes[at++] = c;
      }
      return;
    case 2: {
      const size_t gone = input.byte() % 64;
      bytes.replace(at, gone, input.text(input.byte() % 64));
      return;
    }
    case 3:
      if (what / 4 % 8 == 0) bytes.resize(at);
  }
}

}  // namespace braid::testing
