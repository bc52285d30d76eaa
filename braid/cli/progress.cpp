#include "braid/cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "braid/base/format.h"

namespace braid {
namespace {

size_t terminal_width() {
  winsize w{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

std::string scaled(double n, double base, std::initializer_list<const char*> units) {
  auto unit = units.begin();
  while (n >= base * 0.9995 && unit + 1 != units.end()) {
    n /= base;
    ++unit;
  }
  return unit == units.begin() ? format("{:.0f}{}", n, *unit)
                               : format("{:.{}f}{}", n, n < 99.95 ? 1 : 0, *unit);
}

}  // namespace

ProgressLine::ProgressLine(double every_seconds)
    : terminal_(isatty(STDERR_FILENO) == 1), every_(every_seconds) {}

ProgressLine::~ProgressLine() { finish(); }

void ProgressLine::show(const std::string& line) {
  current_ = line;
  const double now = now_seconds();
  if (now - last_ < (terminal_ ? 0.1 : every_)) return;
  last_ = now;
  if (terminal_) {
    std::fprintf(stderr, "\r%s\x1b[K", line.substr(0, terminal_width() - 1).c_str());
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
    current_.clear();
  }
  std::fflush(stderr);
}

void ProgressLine::message(const std::string& line) {
  std::fprintf(stderr, terminal_ ? "\r%s\x1b[K\n" : "%s\n", line.c_str());
  last_ = terminal_ ? -1e9 : last_;
}

void ProgressLine::finish() {
  if (current_.empty()) return;
  std::fprintf(stderr, terminal_ ? "\r%s\x1b[K\n" : "%s\n", current_.c_str());
  current_.clear();
}

WorkProgress::Tick WorkProgress::bytes(std::string what) {
  return ticks(std::move(what), format_bytes, "");
}

WorkProgress::Tick WorkProgress::counts(std::string what, const std::string& unit) {
  return ticks(std::move(what), format_count, format(" {}", unit));
}

WorkProgress::Tick WorkProgress::ticks(std::string what, std::string (*shown)(double),
                                       std::string unit) {
  constexpr double kSilent = 2;
  // From the first call on, for what was done before it may have been another piece of work.
  return [this, what = std::move(what), shown, unit = std::move(unit), begun = 0.0,
          first = uint64_t{0}](uint64_t done, uint64_t all) mutable {
    const double now = now_seconds();
    if (first == 0) {
      begun = now;
      first = done;
    }
    if (now - begun_ < kSilent || done == first) return;
    const double left = static_cast<double>(all - done) / static_cast<double>(done - first);
    line_.show(format("{}: {} of {}{}  ETA {}", what, shown(static_cast<double>(done)),
                      shown(static_cast<double>(all)), unit, format_seconds((now - begun) * left)));
  };
}

std::string format_seconds(double s) {
  const long n = static_cast<long>(std::max(0.0, s) + 0.5);
  if (n < 60) return format("{}s", n);
  if (n < 3600) return format("{}m{:02}s", n / 60, n % 60);
  return format("{}h{:02}m", n / 3600, n / 60 % 60);
}

std::string format_count(double n) { return scaled(n, 1000, {"", "k", "M", "G", "T", "P"}); }

std::string format_bytes(double n) {
  return scaled(n, 1024, {" B", " KiB", " MiB", " GiB", " TiB"});
}

}  // namespace braid
