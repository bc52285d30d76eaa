#pragma once
// UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF.

#include <cstdint>
#include <string>
#include <string_view>

namespace braid {

struct CodePoint {
  uint32_t value = 0;  // 0xFFFD when invalid
  int bytes = 0;       // when invalid: those of the longest start of a code point, at least 1
  bool valid = false;
  bool cut = false;  // invalid only because the text ends here
};

// The code point at the start of a text that is not empty.
CodePoint first_code_point(std::string_view text);
// The last one; invalid bytes count one by one.
CodePoint last_code_point(std::string_view text);
void append_utf8(std::string& out, uint32_t code_point);

// Bytes in, valid UTF-8 out: what is incomplete waits, what is invalid becomes U+FFFD, one for each
// longest start of a code point (as Rust, Python and the browsers do).
class Utf8Repair {
 public:
  void push(std::string_view bytes, std::string& out);
  void finish(std::string& out);

 private:
  std::string waiting_;  // the start of a code point
};

}  // namespace braid
