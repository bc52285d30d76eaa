#pragma once
// The lightning indexer of DeepSeek sparse attention (V3.2 report; HF deepseek_v32) over kept keys,
// and the rows that it chooses.

#include <memory>
#include <span>
#include <vector>

#include "braid/kernels/attention/latent.h"
#include "braid/ops/selected_attention.h"
#include "braid/ops/tape.h"

namespace braid {

// For queries q [n, heads, dim] with weights [n, heads] (all factors in them) that stand at
// positions first, first + 1, ..: the `top` largest of sum_j w_j relu(q_j . k_t) over t up to
// their own position; of equal ones the earlier. keys: kept rows [dim], read as far as the last
// query. A score's bits depend on its query and key alone.
std::vector<Chosen> choose_keys(const Context& ctx, const Tensor& q, const Tensor& weights,
                                const LatentView& keys, int64_t first, int64_t top);

// The rows of a view at `positions`, which must outlive the result.
LatentView chosen_latents(LatentView of, std::span<const int32_t> positions);

// Rows of x [n, dim], f32, as kept ones: in pages that the kernels may read to the end.
class KeyPages {
 public:
  KeyPages(const Context& ctx, const Tensor& x);
  LatentView view() const { return {pages_.data(), length_, layout_}; }

 private:
  LatentLayout layout_;
  int64_t length_;
  Tensor memory_;
  std::vector<const std::byte*> pages_;
};

}  // namespace braid
