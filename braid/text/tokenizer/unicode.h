#pragma once
// What tokenizers ask about code points, and the normal forms. Data of Unicode 14 (utf8proc).

#include <cstdint>
#include <string>
#include <string_view>

#include "braid/text/tokenizer/utf8.h"

namespace braid {

bool is_white_space(uint32_t c);  // the White_Space property
bool is_numeric(uint32_t c);      // categories Nd, Nl, No
bool is_mark(uint32_t c);         // Mn, Mc, Me
bool is_punctuation(uint32_t c);  // P*, and the ASCII symbols
bool is_control(uint32_t c);      // Cc, Cf, Co, but not tab and line ends
bool is_word(uint32_t c);         // what \w is by Unicode TR18: alphabetic, marks, Nd, Pc, joiners
bool is_cjk_ideograph(uint32_t c);
void append_lowercase(std::string& out, uint32_t c);  // the full mapping of one code point

// Invalid UTF-8 is copied as it is by everything below.
enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
std::string normal_form(std::string_view text, NormalForm form);

// Bytes of the extended grapheme cluster at the start of a text that is not empty.
size_t first_grapheme(std::string_view text);

// Where valid UTF-8 ends: text.size() when all of it is.
size_t valid_utf8_prefix(std::string_view text);

// Calls each(code point, its bytes) for a whole text.
template <typename Each>
void for_each_code_point(std::string_view text, const Each& each) {
  while (!text.empty()) {
    const CodePoint c = first_code_point(text);
    each(c, text.substr(0, static_cast<size_t>(c.bytes)));
    text.remove_prefix(static_cast<size_t>(c.bytes));
  }
}

}  // namespace braid
