#include "braid/text/jinja/unicode.h"

#include <utf8proc.h>

namespace braid::jinja {
namespace {

// Calls fn with every character of s.
template <typename Fn>
void each_character(std::string_view s, Fn&& fn) {
  for (size_t at = 0; at < s.size();) {
    const size_t bytes = character_bytes(s, at);
    fn(s.substr(at, bytes));
    at += bytes;
  }
}

// A broken byte stays what it is.
void append_mapped(std::string& out, std::string_view character, int32_t (*map)(int32_t)) {
  const uint32_t c = code_point(character);
  if (c == 0xFFFD) {
    out += character;
  } else if (c == 0xDF && map == &utf8proc_toupper) {
    out += "SS";  // the one letter in wide use whose upper case is two
  } else {
    append_code_point(out, static_cast<uint32_t>(map(static_cast<int32_t>(c))));
  }
}

std::string map_all(std::string_view s, int32_t (*map)(int32_t)) {
  std::string out;
  out.reserve(s.size());
  each_character(s, [&](std::string_view c) { append_mapped(out, c, map); });
  return out;
}

int category(uint32_t c) { return utf8proc_category(static_cast<int32_t>(c)); }

}  // namespace

bool is_ascii(std::string_view s) {
  unsigned char all = 0;
  for (char c : s) all |= static_cast<unsigned char>(c);
  return all < 0x80;
}

size_t character_bytes(std::string_view s, size_t at) {
  if (static_cast<unsigned char>(s[at]) < 0x80) return 1;
  int32_t c = 0;
  const auto* p = reinterpret_cast<const uint8_t*>(s.data() + at);
  const auto n = utf8proc_iterate(p, static_cast<utf8proc_ssize_t>(s.size() - at), &c);
  return n > 0 ? static_cast<size_t>(n) : 1;
}

uint32_t code_point(std::string_view character) {
  int32_t c = 0;
  const auto* p = reinterpret_cast<const uint8_t*>(character.data());
  const auto n = utf8proc_iterate(p, static_cast<utf8proc_ssize_t>(character.size()), &c);
  return n > 0 ? static_cast<uint32_t>(c) : 0xFFFD;
}

void append_code_point(std::string& out, uint32_t c) {
  uint8_t bytes[4];
  const auto n = utf8proc_encode_char(static_cast<int32_t>(c), bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(n));
}

int64_t count_characters(std::string_view s) {
  if (is_ascii(s)) return static_cast<int64_t>(s.size());
  int64_t n = 0;
  each_character(s, [&](std::string_view) { ++n; });
  return n;
}

std::vector<size_t> character_starts(std::string_view s) {
  std::vector<size_t> starts;
  for (size_t at = 0; at < s.size(); at += character_bytes(s, at)) starts.push_back(at);
  starts.push_back(s.size());
  return starts;
}

bool is_space(uint32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x1F);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

std::string upper(std::string_view s) { return map_all(s, &utf8proc_toupper); }
std::string lower(std::string_view s) { return map_all(s, &utf8proc_tolower); }

std::string title(std::string_view s) {
  std::string out;
  bool inside = false;
  each_character(s, [&](std::string_view c) {
    append_mapped(out, c, inside ? &utf8proc_tolower : &utf8proc_totitle);
    const uint32_t point = code_point(c);
    inside = is_cased_upper(point) || is_cased_lower(point);
  });
  return out;
}

std::string capitalize(std::string_view s) {
  std::string out;
  bool first = true;
  each_character(s, [&](std::string_view c) {
    append_mapped(out, c, first ? &utf8proc_totitle : &utf8proc_tolower);
    first = false;
  });
  return out;
}

std::string swap_case(std::string_view s) {
  std::string out;
  each_character(s, [&](std::string_view c) {
    append_mapped(out, c, is_cased_upper(code_point(c)) ? &utf8proc_tolower : &utf8proc_toupper);
  });
  return out;
}

bool is_letter(uint32_t c) {
  const int k = category(c);
  return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool is_digit(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }

bool is_cased_upper(uint32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LU || category(c) == UTF8PROC_CATEGORY_LT;
}

bool is_cased_lower(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_LL; }

bool is_printable(uint32_t c) {
  if (c < 0x80) return c >= 0x20 && c < 0x7F;
  const int k = category(c);
  return k != UTF8PROC_CATEGORY_CN && k < UTF8PROC_CATEGORY_ZS;
}

std::string_view strip(std::string_view s, bool left, bool right) {
  while (left && !s.empty()) {
    const size_t bytes = character_bytes(s, 0);
    if (!is_space(code_point(s.substr(0, bytes)))) break;
    s.remove_prefix(bytes);
  }
  while (right && !s.empty()) {
    size_t at = s.size() - 1;
    while (at > 0 && s.size() - at < 4 && (static_cast<unsigned char>(s[at]) & 0xC0) == 0x80) --at;
    if (at + character_bytes(s, at) != s.size() || !is_space(code_point(s.substr(at)))) break;
    s.remove_suffix(s.size() - at);
  }
  return s;
}

std::string_view strip(std::string_view s, std::string_view chars, bool left, bool right) {
  const auto starts = character_starts(s);
  size_t begin = 0, end = starts.size() - 1;
  const auto listed = [&](size_t i) {
    const std::string_view c = s.substr(starts[i], starts[i + 1] - starts[i]);
    for (size_t at = 0; at < chars.size(); at += character_bytes(chars, at)) {
      if (chars.substr(at, character_bytes(chars, at)) == c) return true;
    }
    return false;
  };
  while (left && begin < end && listed(begin)) ++begin;
  while (right && begin < end && listed(end - 1)) --end;
  return s.substr(starts[begin], starts[end] - starts[begin]);
}

}  // namespace braid::jinja
