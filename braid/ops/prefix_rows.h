#pragma once
// The same learned rows before the rows of sequences (meta tokens, arXiv 2411.13676), and away
// again. Sequence s owns rows [seq_starts[s], seq_starts[s + 1]) of what has none; begins[s] says
// whether the rows stand before it.

#include <cstdint>
#include <span>
#include <vector>

#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

// x [T, D] and a copy of prefix [N, D] before each sequence that begins.
Tensor with_prefix(const Context& ctx, const Tensor& x, Parameter& prefix,
                   std::span<const int64_t> seq_starts, const std::vector<bool>& begins);
// The rows of x that with_prefix did not add, [T, D].
Tensor without_prefix(const Context& ctx, const Tensor& x, int64_t count,
                      std::span<const int64_t> seq_starts, const std::vector<bool>& begins);

}  // namespace braid
