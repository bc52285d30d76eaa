#include "braid/cli/command.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <thread>

#include "braid/base/clock.h"
#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/cli/interrupt.h"
#include "braid/cli/progress.h"

namespace braid {
namespace {

std::atomic<int> interrupts{0};
std::atomic<bool> watching{false};

// One wish to stop often comes as two signals: timeout(1) signals its child and then the group it
// is in, a terminal the whole group, where a wrapper passes it on.
constexpr double kOneWishSeconds = 0.5;

void wait_for_signals(sigset_t signals) {
  double first = -kOneWishSeconds;  // signal of the wish heard last
  for (;;) {
    int signal = 0;
    if (sigwait(&signals, &signal) != 0) continue;
    const double now = now_seconds();
    if (now - first < kOneWishSeconds) continue;
    first = now;
    if (watching && interrupts.fetch_add(1) == 0) continue;
    std::signal(signal, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    std::raise(signal);
  }
}

// The leading number of `text`; `rest` gets what follows.
double leading_number(const std::string& text, std::string* rest) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  *rest = end;
  return end == text.c_str() || !std::isfinite(value) || value < 0 ? -1 : value;
}

// Rounded up, so that --mem with the number shown is enough: "3.1 MiB".
std::string bytes_that_suffice(size_t bytes) {
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double n = static_cast<double>(bytes);
  size_t unit = 0;
  for (; n >= 1024 && unit + 1 < std::size(units); ++unit) n /= 1024;
  return format("{:.1f} {}", std::ceil(n * 10) / 10, units[unit]);
}

}  // namespace

void CommonFlags::add(CLI::App& app) {
  app.add_option("-t,--threads", threads, "Threads (0 = all cores); results do not depend on it")
      ->capture_default_str()
      ->check(CLI::Range(0, 1024));
  app.add_option("--mem", mem, "Memory budget of tensors, e.g. 4G or 512M (default: none)");
  app.add_flag("--json", json, "Machine-readable output on stdout");
}

Context CommonFlags::context() const {
  Context ctx = probe_context();
  if (!mem.empty()) ctx.arena = Arena::create(Arena::Mode::kReal, parse_bytes(mem, "--mem"));
  return ctx;
}

Context CommonFlags::probe_context() const {
  Context ctx;
  ctx.threads = threads;
  return ctx;
}

void CommonFlags::require_memory(std::vector<MemoryPart> parts, const std::string& what,
                                 const std::string& remedy) const {
  if (mem.empty()) return;
  const size_t allowed = parse_bytes(mem, "--mem");
  std::ranges::stable_sort(parts, std::greater(), &MemoryPart::bytes);
  size_t needed = 0;
  std::string list;
  for (const MemoryPart& p : parts) {
    needed += p.bytes;
    list += format("{}{} {}", list.empty() ? "" : ", ", p.name,
                   format_bytes(static_cast<double>(p.bytes)));
  }
  if (needed <= allowed) return;
  throw Error(ErrorKind::kBudget, format("--mem {} allows {}, but {} needs {} ({}): {}", mem,
                                         format_bytes(static_cast<double>(allowed)), what,
                                         bytes_that_suffice(needed), list, remedy));
}

size_t parse_bytes(const std::string& text, const char* flag) {
  std::string unit;
  const double number = leading_number(text, &unit);
  double factor = 0;
  if (unit.empty() || unit == "B") factor = 1;
  if (unit == "K" || unit == "KB" || unit == "KiB") factor = 0x1p10;
  if (unit == "M" || unit == "MB" || unit == "MiB") factor = 0x1p20;
  if (unit == "G" || unit == "GB" || unit == "GiB") factor = 0x1p30;
  if (unit == "T" || unit == "TB" || unit == "TiB") factor = 0x1p40;
  if (number < 0 || factor == 0 || number * factor > 0x1p62) {
    throw Error(ErrorKind::kUsage,
                format("{} is \"{}\"; it must be a size such as 4G, 512M or 1000000", flag, text));
  }
  return static_cast<size_t>(number * factor);
}

double parse_seconds(const std::string& text, const char* flag) {
  const auto refuse = [&] {
    throw Error(ErrorKind::kUsage,
                format("{} is \"{}\"; it must be a time such as 180s, 3m or 1h30m", flag, text));
  };
  constexpr double kMost = 1e12;  // times left are shown in whole seconds of 64 bits
  double total = 0;
  std::string rest = text;
  if (rest.empty()) refuse();
  while (!rest.empty()) {
    const double number = leading_number(rest, &rest);
    if (number < 0) refuse();
    const char unit = rest.empty() ? 's' : rest.front();
    if (!rest.empty()) rest.erase(0, 1);
    switch (unit) {
      case 's':
        total += number;
        break;
      case 'm':
        total += 60 * number;
        break;
      case 'h':
        total += 3600 * number;
        break;
      case 'd':
        total += 86400 * number;
        break;
      default:
        refuse();
    }
  }
  if (total > kMost) refuse();
  return total;
}

void start_signal_thread() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread(wait_for_signals, signals).detach();
}

void watch_interrupt() { watching = true; }

bool interrupted() { return interrupts > 0; }

void unwatch_interrupt() {
  watching = false;
  interrupts = 0;
}

}  // namespace braid
