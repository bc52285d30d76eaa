#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "braid/base/clock.h"

namespace braid {

// One line on stderr that is redrawn in place on a terminal, and printed now and then elsewhere.
class ProgressLine {
 public:
  // every_seconds: how often a line is printed when stderr is not a terminal.
  explicit ProgressLine(double every_seconds = 10);
  ~ProgressLine();
  void show(const std::string& line);
  void message(const std::string& line);  // a line of its own above the progress
  void finish();                          // leaves the last line standing

 private:
  bool terminal_;
  double every_;
  double last_ = -1e9;
  std::string current_;
};

// How far a piece of work is, on such a line once it has taken over two seconds.
class WorkProgress {
 public:
  using Tick = std::function<void(uint64_t done, uint64_t all)>;
  // What to call as it goes on; begins anew, `what` in front: "writing: 1.2 GiB of 4.0 GiB  ETA
  // 9s".
  Tick bytes(std::string what);
  // The same of things that are counted: "validation: 12.3k of 65.5k tokens  ETA 9s".
  Tick counts(std::string what, const std::string& unit);
  void finish() { line_.finish(); }

 private:
  Tick ticks(std::string what, std::string (*shown)(double), std::string unit);
  ProgressLine line_;
  double begun_ = now_seconds();
};

std::string format_seconds(double seconds);  // "2m05s"
std::string format_count(double n);          // "12.3M"
std::string format_bytes(double n);          // "12.3 MiB"

}  // namespace braid
