#include "braid/text/tokenizer/byte_map.h"

#include "braid/text/tokenizer/unicode.h"

namespace braid {
namespace {

bool stands_for_itself(uint32_t b) {
  return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
}

// Byte of each character below U+0144, -1 for none.
const std::array<int16_t, 0x144>& bytes_of_characters() {
  static const std::array<int16_t, 0x144> table = [] {
    std::array<int16_t, 0x144> t;
    t.fill(-1);
    uint32_t next = 0x100;
    for (uint32_t b = 0; b < 256; ++b) {
      t[stands_for_itself(b) ? b : next++] = static_cast<int16_t>(b);
    }
    return t;
  }();
  return table;
}

}  // namespace

const std::array<std::string, 256>& byte_characters() {
  static const std::array<std::string, 256> table = [] {
    std::array<std::string, 256> t;
    const auto& bytes = bytes_of_characters();
    for (uint32_t c = 0; c < bytes.size(); ++c) {
      if (bytes[c] >= 0) append_utf8(t[static_cast<size_t>(bytes[c])], c);
    }
    return t;
  }();
  return table;
}

std::string map_bytes(std::string_view bytes) {
  const auto& characters = byte_characters();
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 4);
  for (const char c : bytes) out += characters[static_cast<uint8_t>(c)];
  return out;
}

bool unmap_bytes(std::string_view characters, std::string& out) {
  const auto& table = bytes_of_characters();
  const size_t before = out.size();
  while (!characters.empty()) {
    const CodePoint c = first_code_point(characters);
    if (!c.valid || c.value >= table.size() || table[c.value] < 0) {
      out.resize(before);
      return false;
    }
    out += static_cast<char>(table[c.value]);
    characters.remove_prefix(static_cast<size_t>(c.bytes));
  }
  return true;
}

}  // namespace braid
