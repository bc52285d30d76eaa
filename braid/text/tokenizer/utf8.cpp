#include "braid/text/tokenizer/utf8.h"

#include <algorithm>

namespace braid {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

}  // namespace

CodePoint first_code_point(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, true, false};
  const int need = lead >= 0xC2 && lead <= 0xDF   ? 2
                   : (lead & 0xF0) == 0xE0        ? 3
                   : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                  : 0;
  if (need == 0) return {0xFFFD, 1, false, false};
  uint32_t value = lead & (0xFFu >> (need + 1));
  for (int i = 1; i < need; ++i) {
    if (static_cast<size_t>(i) >= text.size()) return {0xFFFD, i, false, true};
    // The second byte's range is narrower: no overlong forms, surrogates, or > U+10FFFF.
    const uint8_t low = i == 1 && lead == 0xE0 ? 0xA0 : i == 1 && lead == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = i == 1 && lead == 0xED ? 0x9F : i == 1 && lead == 0xF4 ? 0x8F : 0xBF;
    const uint8_t b = byte(static_cast<size_t>(i));
    if (b < low || b > high) return {0xFFFD, i, false, false};
    value = value << 6 | (b & 0x3Fu);
  }
  return {value, need, true, false};
}

CodePoint last_code_point(std::string_view text) {
  const size_t most = std::min<size_t>(4, text.size());
  for (size_t n = 1; n <= most; ++n) {
    const std::string_view tail = text.substr(text.size() - n);
    if ((static_cast<uint8_t>(tail[0]) & 0xC0) == 0x80) continue;
    const CodePoint c = first_code_point(tail);
    if (c.valid && static_cast<size_t>(c.bytes) == n) return c;
    break;
  }
  return {0xFFFD, 1, false, false};
}

void append_utf8(std::string& out, uint32_t c) {
  const auto put = [&](uint32_t b) { out.push_back(static_cast<char>(b)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

void Utf8Repair::push(std::string_view bytes, std::string& out) {
  std::string joined;
  if (!waiting_.empty()) {
    joined = waiting_.append(bytes);
    waiting_.clear();
    bytes = joined;
  }
  while (!bytes.empty()) {
    const CodePoint c = first_code_point(bytes);
    if (c.cut) {
      waiting_ = bytes;
      return;
    }
    out += c.valid ? bytes.substr(0, static_cast<size_t>(c.bytes)) : kReplacement;
    bytes.remove_prefix(static_cast<size_t>(c.bytes));
  }
}

void Utf8Repair::finish(std::string& out) {
  if (!waiting_.empty()) out += kReplacement;
  waiting_.clear();
}

}  // namespace braid
