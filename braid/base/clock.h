#pragma once

namespace braid {

// Monotonic seconds since an arbitrary start.
double now_seconds();

}  // namespace braid
