#include "braid/base/error.h"

#include "braid/base/format.h"

namespace braid {

Error::Error(ErrorKind kind, std::string message)
    : std::runtime_error(message), kind_(kind), message_(std::move(message)) {}

Error& Error::add_context(const std::string& where) {
  message_ = where + ": " + message_;
  return *this;
}

void check_failed(const char* expression, const char* file, int line) {
  throw Error(ErrorKind::kInternal,
              format("internal error: {} does not hold at {}:{}", expression, file, line));
}

}  // namespace braid
