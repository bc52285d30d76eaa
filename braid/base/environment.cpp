#include "braid/base/environment.h"

#include <cstdlib>
#include <string_view>

#include "braid/base/error.h"
#include "braid/base/format.h"

namespace braid {
namespace {

// Whether the variable leaves things as they are: it is `usual`, empty or not set, and not `other`.
bool is_usual(const char* variable, std::string_view usual, std::string_view other) {
  const char* set = std::getenv(variable);
  const std::string_view value = set == nullptr ? "" : set;
  if (value.empty() || value == usual) return true;
  if (value == other) return false;
  throw Error(ErrorKind::kUsage, format("{} is \"{}\"; it must be {} or {}, or not be set",
                                        variable, value, other, usual));
}

}  // namespace

const Environment& environment() {
  static const Environment read = {is_usual("BRAID_AMX", "1", "0"),
                                   is_usual("BRAID_ATTENTION", "auto", "f32")};
  return read;
}

}  // namespace braid
