#pragma once

#include <functional>

#include "braid/ops/tape.h"

namespace braid {

// Activation recomputation (arXiv 1604.06174): y = body(x), of which only x is kept; the backward
// pass runs the body again. The body must be a pure function of x and of parameters. FLOPs of the
// second run are not counted. Layers gather statistics where there is a tape: in that run only.
Tensor checkpoint(const Context& ctx, const Tensor& x,
                  std::function<Tensor(const Context&, const Tensor&)> body);

}  // namespace braid
