#pragma once

#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

// The keys that RWKV-7 (arXiv 2503.14456) makes of one projection, per head of K channels:
//   kappa = k (.) k_k / max(|k (.) k_k|, 1e-12)     what is removed
//   erase = kappa (.) eta                            the direction it is removed in
//   write = k (.) (1 + (eta - 1) (.) k_a)
// k, eta [T, H * K] contiguous, eta the in-context learning rate in (0, 1); k_k, k_a [H * K]; the
// outputs are [T, H, K]. `minus_kappa` is what the recurrence reads by.
struct Rwkv7Keys {
  Tensor minus_kappa, erase, write;
};
Rwkv7Keys rwkv7_keys(const Context& ctx, const Tensor& k, const Tensor& eta, int64_t heads,
                     Parameter& k_k, Parameter& k_a);

}  // namespace braid
