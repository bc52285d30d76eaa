#include "braid/text/jinja/text_tools.h"

#include <algorithm>

#include "braid/base/format.h"
#include "braid/text/jinja/unicode.h"

namespace braid::jinja {

std::string replaced(Heap& heap, const std::string& s, const std::string& old,
                     const std::string& with, int64_t count) {
  std::string out;
  size_t at = 0, scanned = 0;
  const auto emit = [&](std::string_view text) {
    out += text;
    heap.work(1 + text.size() / 64);
    if (out.size() > heap.limits().output) fail("a text becomes too long by replacing");
  };
  if (old.empty()) {
    const auto starts = character_starts(s);
    for (size_t i = 0; i < starts.size(); ++i) {
      if (count < 0 || static_cast<int64_t>(i) < count) emit(with);
      if (i + 1 < starts.size()) {
        emit(std::string_view(s).substr(starts[i], starts[i + 1] - starts[i]));
      }
    }
    return out;
  }
  for (; count != 0; count -= count > 0) {
    const size_t found = s.find(old, scanned);
    if (found == std::string::npos) break;
    emit(std::string_view(s).substr(at, found - at));
    emit(with);
    at = scanned = found + old.size();
  }
  emit(std::string_view(s).substr(at));
  return out;
}

std::vector<std::string_view> split_lines(std::string_view s, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t at = 0; at < s.size();) {
    const size_t bytes = character_bytes(s, at);
    const uint32_t c = code_point(s.substr(at, bytes));
    const bool ends =
        (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    size_t after = at + bytes;
    if (ends) {
      if (c == '\r' && after < s.size() && s[after] == '\n') ++after;
      lines.push_back(s.substr(begin, (keep_ends ? after : at) - begin));
      begin = after;
    }
    at = after;
  }
  if (begin < s.size()) lines.push_back(s.substr(begin));
  return lines;
}

std::string justified(const std::string& s, int64_t width, std::string_view fill, int side) {
  constexpr int64_t kWidest = 10000;
  if (width > kWidest) fail(format("a field of {} is wider than {}", width, kWidest));
  const int64_t missing = std::max<int64_t>(std::max<int64_t>(width, 0) - count_characters(s), 0);
  // Python puts the odd blank of a centred text left when the width is odd.
  const int64_t left = side < 0 ? 0 : side > 0 ? missing : missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += s;
  for (int64_t i = left; i < missing; ++i) out += fill;
  return out;
}

}  // namespace braid::jinja
