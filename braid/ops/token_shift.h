#pragma once
// Token shift (RWKV, arXiv 2305.13048): what a token's predecessor adds to it.

#include <span>

#include "braid/ops/tape.h"

namespace braid {

// dx[t] = x[t - 1] - x[t] inside each sequence of x [T, C], contiguous. last: one [1, C] per
// sequence with the row before its first, read and then moved on to its last; empty = zeros before
// every sequence and nothing kept. A call with `last` is not differentiable.
Tensor token_difference(const Context& ctx, const Tensor& x, std::span<const int64_t> seq_starts,
                        std::span<const Tensor> last = {});

// Rows of every sequence one later, with one row more each: x [T, ...] -> [T + sequences, ...],
// zeros first. x's rows may be strided. With `at_end` the extra row of zeros stands last instead.
Tensor with_zero_rows(const Context& ctx, const Tensor& x, std::span<const int64_t> seq_starts,
                      bool at_end);
// The inverse of at_end: leaves out every sequence's last row; seq_starts are those of the result.
Tensor without_last_rows(const Context& ctx, const Tensor& x, std::span<const int64_t> seq_starts);

}  // namespace braid
