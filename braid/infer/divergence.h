#pragma once
// How far one model's predictions are from another's on the same tokens: what rounding of weights
// costs.

#include <cstdint>
#include <span>
#include <vector>

#include "braid/base/function_ref.h"
#include "braid/stack/model.h"

namespace braid {

struct Divergence {
  int64_t context = 0;    // tokens that the last prediction sees
  int64_t positions = 0;  // predictions compared, the last ones up to there
  double kl = 0;          // mean of KL(reference || model), nats
  double worst_kl = 0;
  double top1 = 0;  // share of positions where both find the same token likeliest
};

constexpr int64_t kComparedPositions = 256;  // at each context, at most

// One pass of both models over ids, in prefill's chunks; at each of `contexts` (ascending, none
// beyond the tokens given) the predictions of the last kComparedPositions positions are compared,
// those of a smaller context left out. `progress` is told of every chunk how many tokens are read,
// of how many. Throws Error(kUsage) when the vocabularies differ.
std::vector<Divergence> divergence(
    const Context& ctx, Model& model, Model& reference, std::span<const int32_t> ids,
    std::span<const int64_t> contexts,
    FunctionRef<void(int64_t done, int64_t all)> progress = [](int64_t, int64_t) {});

// The same for two rows of logits: adds to `sum` and counts an agreement.
void compare_rows(const float* row, const float* reference, int64_t vocab, Divergence& sum);

}  // namespace braid
