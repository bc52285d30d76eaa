#include "braid/text/utf8_stream.h"

#include <algorithm>
#include <cstdint>

namespace braid {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Bytes of the code point at the start of s: its length when valid, 0 when it may still become
// valid, -1 when not.
int code_point(std::string_view s) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  const int need = lead >= 0xC2 && lead <= 0xDF   ? 2
                   : (lead & 0xF0) == 0xE0        ? 3
                   : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                  : 0;
  if (need == 0) return -1;
  for (int i = 1; i < need; ++i) {
    if (static_cast<size_t>(i) >= s.size()) return 0;
    uint8_t low = 0x80,
            high =
                0xBF;  // narrower for the second byte: no overlong forms, surrogates, or > U+10FFFF
    if (i == 1 && lead == 0xE0) low = 0xA0;
    if (i == 1 && lead == 0xED) high = 0x9F;
    if (i == 1 && lead == 0xF0) low = 0x90;
    if (i == 1 && lead == 0xF4) high = 0x8F;
    if (byte(static_cast<size_t>(i)) < low || byte(static_cast<size_t>(i)) > high) return -1;
  }
  return need;
}

}  // namespace

std::string TextStream::take_valid(bool last) {
  std::string out;
  size_t at = 0;
  while (at < raw_.size()) {
    const int n = code_point(std::string_view(raw_).substr(at));
    if (n == 0 && !last) break;
    if (n > 0) {
      out.append(raw_, at, static_cast<size_t>(n));
      at += static_cast<size_t>(n);
    } else {
      out += kReplacement;
      ++at;
    }
  }
  raw_.erase(0, at);
  return out;
}

std::string TextStream::hold_back(bool last) {
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) {
    if (!stop.empty()) first = std::min(first, ready_.find(stop));
  }
  if (first != std::string::npos) {
    stopped_ = true;
    return ready_.substr(0, first);
  }
  size_t keep = 0;
  for (const std::string& stop : stops_) {
    if (last) break;
    for (size_t n = std::min(stop.size(), ready_.size()); n > keep; --n) {
      if (ready_.compare(ready_.size() - n, n, stop, 0, n) == 0) keep = n;
    }
  }
  std::string out = ready_.substr(0, ready_.size() - keep);
  ready_.erase(0, out.size());
  return out;
}

std::string TextStream::push(std::string_view bytes) {
  if (stopped_) return {};
  raw_ += bytes;
  ready_ += take_valid(false);
  return hold_back(false);
}

std::string TextStream::finish() {
  if (stopped_) return {};
  ready_ += take_valid(true);
  return hold_back(true);
}

}  // namespace braid
