#pragma once
// Softmax attention over chosen keys, one by one (DSA; over runs of them chosen_attention.h), and
// the choice of the largest scores.

#include <memory>
#include <span>
#include <vector>

#include "braid/ops/tape.h"

namespace braid {

// Positions, or blocks of them, that one token attends to, rising.
using Chosen = std::vector<int32_t>;

// For every token and set, the rows of the batch that it attends to. Query head h of H reads set
// h / (H / sets).
struct KeySelection {
  int64_t sets = 1;
  std::vector<int64_t> starts;  // [T * sets + 1] into keys
  std::vector<int32_t> keys;    // rows of k and v, rising within a list
  std::span<const int32_t> of(int64_t token, int64_t set) const {
    const size_t i = static_cast<size_t>(token * sets + set);
    return std::span(keys).subspan(static_cast<size_t>(starts[i]),
                                   static_cast<size_t>(starts[i + 1] - starts[i]));
  }
};

// q [T, H, d], k [T, Hkv, d], v [T, Hkv, dv] contiguous -> [T, H, dv]. seq_starts bound the
// sequences; a list holds rows of its token's own sequence. Recorded on the tape; no gradient flows
// into the choice.
Tensor selected_attention(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                          double scale, std::shared_ptr<const KeySelection> selection,
                          std::span<const int64_t> seq_starts);

// Indices of the `count` largest of scores, rising; of equal ones the first. All when there are no
// more. NaN is larger than any number.
std::vector<int32_t> largest(std::span<const float> scores, int64_t count);
std::vector<int32_t> largest(std::span<const double> scores, int64_t count);

}  // namespace braid
