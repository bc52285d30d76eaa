#pragma once

#include <cstdint>

#include "braid/base/function_ref.h"
#include "braid/core/context.h"

namespace braid {

// Calls body(begin, end) for consecutive ranges of `grain` items that cover [0, n). The ranges
// depend on n and grain alone, never on the number of threads, so work that writes disjoint outputs
// per range is bitwise equal for any thread count. Ranges run in any order. The first exception is
// carried out. Nested calls run serially. Does nothing on a dry context.
void parallel_for(const Context& ctx, int64_t n, int64_t grain,
                  FunctionRef<void(int64_t begin, int64_t end)> body);

int machine_threads();                    // processors this process may use
int effective_threads(const Context& c);  // c.threads, or machine_threads() when that is 0
// From now on a library's own threads (oneDNN called outside parallel_for) are as many as those of
// `c`. Only measurements call libraries there.
void give_threads_to_libraries(const Context& c);

// Items per range so that about `ranges` ranges cover n: a fixed number, whatever the machine.
constexpr int64_t grain_for(int64_t n, int64_t ranges) {
  return n <= ranges ? 1 : (n + ranges - 1) / ranges;
}

}  // namespace braid
