#pragma once
// Rotary position embedding (arXiv 2104.09864), whole or partial.

#include <span>

#include "braid/ops/rope_scaling.h"
#include "braid/ops/tape.h"

namespace braid {

struct RopeConfig {
  double theta = 10000.0;    // angle of pair i at position p: p * theta^(-2i / rotary), scaled
  int64_t rotary = 0;        // channels of each head that turn, even; the others pass
  bool interleaved = false;  // pairs (2i, 2i + 1) instead of (i, i + rotary / 2)
  int64_t first = 0;         // channel where the turning ones begin
  RopeScaling scaling = {};
};

// Cosines and sines for every token of a ragged batch: [T, rotary], cosines of the pairs, then
// sines. Sequence s owns rows [seq_starts[s], seq_starts[s + 1]) and starts at position offsets[s].
// Angles in double. Where a scaling goes by length, sequence s has contexts[s] tokens; without
// contexts a token's angles are those of the sequence that ends with it, so that they depend on
// its position alone.
Tensor rope_table(const Context& ctx, const RopeConfig& config, std::span<const int64_t> seq_starts,
                  std::span<const int64_t> offsets, std::span<const int64_t> contexts = {});

// x [T, H, d] or [T * H, d] (rows may be strided) turned by the table of its tokens,
// first + rotary <= d; result contiguous, of x's shape. Recorded on the tape.
Tensor rope(const Context& ctx, const RopeConfig& config, const Tensor& x, const Tensor& table);

// Gradient of rope(): d_y, contiguous, turned back.
Tensor rope_backward(const Context& ctx, const RopeConfig& config, const Tensor& d_y,
                     const Tensor& table);

}  // namespace braid
