#pragma once
// What stands for each block of tokens in NSA's first branch.

#include <array>
#include <span>

#include "braid/layers/mixers/nsa/nsa_ref.h"

namespace braid {

// By the shape the mean of a block's keys, turned by position, and of its values; or what a small
// network makes of them, position in the block and all, its key turned by where the block begins.
class NsaCompressor {
 public:
  NsaCompressor(const NsaShape& shape, const LayerEnv& env, ParamBuilder& params);

  // k as shape.learned says (not turned) or not (turned), v: [T, Hkv, d] of sequences seq_starts,
  // of which s begins at position `positions[s]`, where a block begins -> keys and values of the
  // whole blocks, [N, Hkv, d].
  std::array<Tensor, 2> operator()(const Context& ctx, const Tensor& k, const Tensor& v,
                                   std::span<const int64_t> seq_starts,
                                   std::span<const int64_t> positions) const;

 private:
  struct Network {
    Parameter *position = nullptr, *up = nullptr, *down = nullptr;
  };
  Tensor learned(const Context& ctx, const Tensor& x, std::span<const int64_t> seq_starts,
                 const Network& network) const;

  NsaShape shape_;
  std::array<Network, 2> networks_;  // of keys, of values; one for all kv heads
};

}  // namespace braid
