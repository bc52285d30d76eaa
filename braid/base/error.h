#pragma once
// The one exception type of braid (style/layout-proposal.md section 6). Thrown for bad input;
// caught in the CLI, a request handler, a search trial or a test, and nowhere else.

#include <cstdint>
#include <stdexcept>
#include <string>

namespace braid {

// The value is the process exit code (DESIGN section 5.5).
enum class ErrorKind : int {
  kInternal = 1,      // a broken invariant of braid itself
  kUsage = 2,         // a flag, a stack expression, a setting
  kBadInput = 3,      // a file or model that cannot be used
  kBudget = 4,        // a limit in bytes or seconds would be exceeded
  kInterrupted = 130  // stopped by the user, work saved
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string message);
  ErrorKind kind() const { return kind_; }
  const char* what() const noexcept override { return message_.c_str(); }
  // Prefixes the message with where it happened ("file x.toml: ..."); returns *this for rethrow.
  Error& add_context(const std::string& where);

 private:
  ErrorKind kind_;
  std::string message_;
};

[[noreturn]] void check_failed(const char* expression, const char* file, int line);

}  // namespace braid

// Broken invariant in cold code; never for user input.
#define BRAID_CHECK(cond)                                          \
  do {                                                             \
    if (!(cond)) ::braid::check_failed(#cond, __FILE__, __LINE__); \
  } while (0)

// Same inside kernels: debug and sanitizer builds only.
#ifdef BRAID_CHECKS
#define BRAID_DCHECK(cond) BRAID_CHECK(cond)
#else
#define BRAID_DCHECK(cond) \
  do {                     \
  } while (0)
#endif
