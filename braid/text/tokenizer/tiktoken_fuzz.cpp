// Any bytes are a tiktoken.model or throw braid::Error(kBadInput). To get past the 256 bytes that
// must be there, they are given; the input comes after them.

#include <cstddef>
#include <cstdint>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/text/tokenizer/tiktoken.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string bytes = [] {
    constexpr std::string_view k =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string lines;
    for (size_t b = 0; b < 256; ++b) {
      lines += braid::format("{}{}== {}\n", k[b >> 2], k[b << 4 & 63], b);
    }
    return lines;
  }();
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = input.find('\0');
  const std::string_view config = cut == input.npos ? "" : input.substr(cut + 1);
  try {
    const auto t = braid::parse_tiktoken(bytes + std::string(input.substr(0, cut)), config);
    const std::string text = "The aab  \xE4\xB8\x96\n12 \xFF'll ";
    BRAID_CHECK(t->decode_bytes(t->encode(text, {.allow_special = false})) == text);
  } catch (const braid::Error& e) {
    BRAID_CHECK(e.kind() == braid::ErrorKind::kBadInput);
  }
  return 0;
}
