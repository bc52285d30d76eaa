#pragma once
// What native sparse attention (arXiv 2502.11089) does beside attending.

#include <array>
#include <span>
#include <vector>

#include "braid/ops/tape.h"

namespace braid {

// Means over whole blocks of `block` tokens of every sequence, in order: x [T, H, d] contiguous ->
// [blocks, H, d]; what is left of a sequence is in none. Sums go in the order of tokens.
Tensor block_means(const Context& ctx, const Tensor& x, std::span<const int64_t> seq_starts,
                   int64_t block);
// The mean of `block` rows [n] at stride ld, in the same order and with the same bits.
void mean_rows(const float* rows, int64_t ld, int64_t block, int64_t n, float* mean);

// sum_b sigmoid(gates[t, b H + h]) o_b[t, h]: o_b [T, H, d] contiguous, gates [T, 3 H], rows may be
// strided.
Tensor gated_sum(const Context& ctx, const std::array<Tensor, 3>& o, const Tensor& gates);

}  // namespace braid
