#pragma once
// What a fuzz target may be answered with. An error that is none of it is thrown on, so that what
// the fuzzer shows is the error itself.

#include <algorithm>
#include <initializer_list>

#include "braid/base/error.h"

namespace braid::testing {

// Within the handler that caught `e`.
inline void expect(const Error& e,
                   std::initializer_list<ErrorKind> kinds = {ErrorKind::kBadInput}) {
  if (std::find(kinds.begin(), kinds.end(), e.kind()) == kinds.end()) throw;
}

}  // namespace braid::testing
