#pragma once
// GPT-2's spelling of bytes: printable ones as themselves, the others as U+0100 and up, so that a
// vocabulary of bytes is a vocabulary of text.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace braid {

// The character of each byte, as UTF-8.
const std::array<std::string, 256>& byte_characters();
std::string map_bytes(std::string_view bytes);
// Back; false when a character stands for no byte (then `out` is unchanged).
bool unmap_bytes(std::string_view characters, std::string& out);

}  // namespace braid
