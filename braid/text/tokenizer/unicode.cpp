#include "braid/text/tokenizer/unicode.h"

#include <utf8proc.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "braid/base/error.h"

namespace braid {
namespace {

utf8proc_category_t category(uint32_t c) { return utf8proc_category(static_cast<int32_t>(c)); }

bool is_ascii(char c) { return static_cast<uint8_t>(c) < 0x80; }

// One valid run through utf8proc.
void append_normal(std::string& out, std::string_view run, utf8proc_option_t options) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(run.data()),
                   static_cast<utf8proc_ssize_t>(run.size()), &result, options);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  if (size < 0) throw Error(ErrorKind::kInternal, utf8proc_errmsg(size));
  out.append(reinterpret_cast<const char*>(result), static_cast<size_t>(size));
}

}  // namespace

bool is_white_space(uint32_t c) {
  if (c < 0x80) return (c >= 0x09 && c <= 0x0D) || c == 0x20;
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_numeric(uint32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const utf8proc_category_t k = category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool is_mark(uint32_t c) {
  const utf8proc_category_t k = category(c);
  return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_ME;
}

bool is_punctuation(uint32_t c) {
  if (c < 0x80) {
    return (c >= 0x21 && c <= 0x2F) || (c >= 0x3A && c <= 0x40) || (c >= 0x5B && c <= 0x60) ||
           (c >= 0x7B && c <= 0x7E);
  }
  const utf8proc_category_t k = category(c);
  return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

bool is_control(uint32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  const utf8proc_category_t k = category(c);
  return k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CO;
}

bool is_word(uint32_t c) {
  if (c < 0x80) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= 'a' && c <= 'z');
  }
  switch (category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:  // the symbols that are alphabetic, and the two joiners
      return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
             (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189) || c == 0x200C ||
             c == 0x200D;
  }
}

bool is_cjk_ideograph(uint32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

void append_lowercase(std::string& out, uint32_t c) {
  if (c == 0x130) {  // the only one that becomes two
    out += "i\xCC\x87";
    return;
  }
  append_utf8(out, static_cast<uint32_t>(utf8proc_tolower(static_cast<int32_t>(c))));
}

size_t first_grapheme(std::string_view text) {
  const CodePoint first = first_code_point(text);
  auto at = static_cast<size_t>(first.bytes);
  int32_t state = 0;
  uint32_t before = first.value;
  while (at < text.size()) {
    const CodePoint c = first_code_point(text.substr(at));
    if (utf8proc_grapheme_break_stateful(static_cast<int32_t>(before),
                                         static_cast<int32_t>(c.value), &state)) {
      break;
    }
    before = c.value;
    at += static_cast<size_t>(c.bytes);
  }
  return at;
}

size_t valid_utf8_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t eight;
    if (at + 8 <= text.size()) {
      std::memcpy(&eight, text.data() + at, 8);
      if ((eight & 0x8080808080808080ULL) == 0) {
        at += 8;
        continue;
      }
    }
    const CodePoint c = first_code_point(text.substr(at));
    if (!c.valid) return at;
    at += static_cast<size_t>(c.bytes);
  }
  return at;
}

std::string normal_form(std::string_view text, NormalForm form) {
  constexpr utf8proc_option_t kOptions[] = {
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE),
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE),
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT),
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT)};
  const utf8proc_option_t options = kOptions[static_cast<int>(form)];
  std::string out;
  out.reserve(text.size());
  // ASCII stays, except for a character that what follows may combine with: runs of other bytes go
  // through the library together with the character before them.
  size_t at = 0;
  while (at < text.size()) {
    size_t next = at;
    while (next < text.size() && is_ascii(text[next])) ++next;
    if (next == text.size()) break;
    const size_t begin = next > at ? next - 1 : next;
    out.append(text, at, begin - at);
    while (next < text.size() && !is_ascii(text[next])) ++next;
    const std::string_view run = text.substr(begin, next - begin);
    const size_t valid = valid_utf8_prefix(run);
    if (valid > 0) append_normal(out, run.substr(0, valid), options);
    at = begin + valid;
    if (valid < run.size()) out += text[at++];
  }
  return out.append(text.substr(at));
}

}  // namespace braid
