#include "braid/report/units.h"

#include <cmath>

#include "braid/base/format.h"

namespace braid {
namespace {

// Three digits: "1.21", "48.0", "512".
std::string three_digits(double v) {
  return v < 9.995 ? format("{:.2f}", v) : v < 99.95 ? format("{:.1f}", v) : format("{:.0f}", v);
}

}  // namespace

std::string bytes_text(double bytes) {
  const char* const units[] = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return format("{:.0f} B", bytes);
  int unit = 0;
  for (bytes /= 1024; bytes >= 999.5 && unit < 3; ++unit) bytes /= 1024;
  return format("{} {}", three_digits(bytes), units[unit]);
}

std::string count_text(double count) {
  const char* const units[] = {"k", "M", "G", "T"};
  if (count < 1000) return format("{:.0f}", count);
  int unit = 0;
  for (count /= 1000; count >= 999.5 && unit < 3; ++unit) count /= 1000;
  return three_digits(count) + units[unit];
}

std::string context_text(int64_t tokens) {
  constexpr int64_t kK = 1024, kM = kK * kK;
  if (tokens >= kM && tokens % kM == 0) return format("{}M", tokens / kM);
  if (tokens >= kK && tokens % kK == 0) return format("{}k", tokens / kK);
  return format("{}", tokens);
}

std::string duration_text(double seconds) {
  if (seconds < 59.95) return format("{:.1f} s", seconds);
  const int64_t s = std::llround(seconds);
  if (s < 3600) return format("{} min {} s", s / 60, s % 60);
  return format("{} h {} min", s / 3600, s / 60 % 60);
}

}  // namespace braid
