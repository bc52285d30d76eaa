#pragma once
// Commands: cli/commands/<name>.cpp and one line in cli/commands/list.inc.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "braid/core/context.h"

namespace braid {

// Declares a command's flags and returns what runs it; the returned value is the exit code.
using CommandSetup = std::function<int()> (*)(CLI::App& app);

struct Command {
  const char* name;
  const char* summary;
  CommandSetup setup;
};

struct MemoryPart {
  std::string name;  // "weights"
  size_t bytes = 0;
};

// Flags that every computing command has.
struct CommonFlags {
  int threads = 0;
  std::string mem;
  bool json = false;
  void add(CLI::App& app);
  // A context with these threads and the --mem budget.
  Context context() const;
  // The same without the budget: for measuring the machine, whose buffer is given back at once.
  Context probe_context() const;
  // Throws Error(kBudget) when the parts together are more than --mem, saying what needs them, the
  // largest first, and what to do.
  void require_memory(std::vector<MemoryPart> parts, const std::string& what,
                      const std::string& remedy) const;
};

// "4G", "512M", "1000000" -> bytes (binary units). Throws Error(kUsage) naming the flag.
size_t parse_bytes(const std::string& text, const char* flag);
// "180s", "3m", "1h30m", "90" -> seconds.
double parse_seconds(const std::string& text, const char* flag);

// SIGINT and SIGTERM are taken by one thread that does nothing else, never by a handler on a
// computing thread: just-in-time kernels keep data below the stack pointer, where a handler's frame
// would land. Called by main before any other thread exists. Until watch_interrupt() a signal ends
// the process.
void start_signal_thread();

// True after Ctrl+C (SIGINT) or SIGTERM, once watch_interrupt() has been called. What
// comes within half a second means the same wish; a later signal ends the process at once.
void watch_interrupt();
bool interrupted();

}  // namespace braid
