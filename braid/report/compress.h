#pragma once
// What general-purpose compressors make of a text: the bar that a language model has to clear.

#include <string_view>

namespace braid {

// Bits per byte of `text` (not empty) as the command of that name would compress it, its file
// header and checksum included. Deterministic; xz -9 reserves about 700 MB.
double gzip9_bits_per_byte(std::string_view text);  // zlib level 9
double xz9_bits_per_byte(std::string_view text);    // liblzma preset 9

}  // namespace braid
