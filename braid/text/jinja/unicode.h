#pragma once
// Code points of UTF-8 text as Python's str sees them. A byte that is no part of valid UTF-8 counts
// as one character of its own.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace braid::jinja {

bool is_ascii(std::string_view s);
// The bytes of the character at `at` (which lies inside s).
size_t character_bytes(std::string_view s, size_t at);
uint32_t code_point(std::string_view character);
void append_code_point(std::string& out, uint32_t c);
int64_t count_characters(std::string_view s);
// Where each character starts, and the end.
std::vector<size_t> character_starts(std::string_view s);

bool is_space(uint32_t c);  // str.isspace
std::string upper(std::string_view s);
std::string lower(std::string_view s);
std::string title(std::string_view s);       // every run of letters: first upper, others lower
std::string capitalize(std::string_view s);  // the first upper, all others lower
std::string swap_case(std::string_view s);
bool is_letter(uint32_t c);
bool is_digit(uint32_t c);
bool is_cased_upper(uint32_t c);
bool is_cased_lower(uint32_t c);
bool is_printable(uint32_t c);  // str.isprintable: what repr shows as it is

// str.strip: of white space, or of any of the characters in `chars`.
std::string_view strip(std::string_view s, bool left, bool right);
std::string_view strip(std::string_view s, std::string_view chars, bool left, bool right);

}  // namespace braid::jinja
