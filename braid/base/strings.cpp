#include "braid/base/strings.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace braid {
namespace {

template <typename Number>
std::optional<Number> parse_whole(std::string_view text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return value;
}

}  // namespace

std::optional<int64_t> parse_int(std::string_view text) { return parse_whole<int64_t>(text); }

std::optional<double> parse_real(std::string_view text) {
  const std::optional<double> value = parse_whole<double>(text);
  if (!value || !std::isfinite(*value)) return std::nullopt;
  return value;
}

std::optional<bool> parse_bool(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return std::nullopt;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(separator, at), text.size());
    pieces.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return pieces;
}

std::string shortest_text(double value) {
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value);
  return std::string(buffer, result.ptr);
}

bool matches_pattern(std::string_view text, std::string_view pattern) {
  // The places in the pattern that the text so far can have led to.
  std::vector<char> at(pattern.size() + 1, 0), next;
  const auto skip_stars = [&](std::vector<char>& places) {
    for (size_t i = 0; i < pattern.size(); ++i) {
      if (places[i] && pattern[i] == '*') places[i + 1] = 1;
    }
  };
  at[0] = 1;
  skip_stars(at);
  for (const char c : text) {
    next.assign(at.size(), 0);
    for (size_t i = 0; i < pattern.size(); ++i) {
      if (!at[i]) continue;
      const char p = pattern[i];
      const bool digit = p == '#' && c >= '0' && c <= '9';
      if (p == '*' || digit) next[i] = 1;
      if (p == '?' || p == c || digit) next[i + 1] = 1;
    }
    skip_stars(next);
    at.swap(next);
  }
  return at[pattern.size()] != 0;
}

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte & 0xC0) == 0x80) continue;  // one mark for a UTF-8 character, not one for each byte
    if (out.size() == limit) return out + "...";
    out += byte < 0x20 || byte >= 0x7F ? '?' : c;
  }
  return out;
}

}  // namespace braid
