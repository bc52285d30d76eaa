#pragma once
// Row kernels of the mixture of experts: router scores, selection, and the elementwise work around
// the experts' products.

#include <cstdint>

#include "braid/kernels/simd/activation.h"

namespace braid {

// s [E] = softmax or sigmoid of the logits.
void router_scores_f32(bool sigmoid, int64_t experts, const float* logits, float* s);

// The k largest of c [E], largest first, ties to the lowest index. With groups > 1 only experts of
// the `topk_groups` groups (of E / groups neighbours) with the largest sum of their two best c may
// be chosen.
struct Selection {
  int64_t experts;
  int64_t k;
  int64_t groups;
  int64_t topk_groups;
};
constexpr int64_t kMaxExpertsPerToken = 64;
constexpr int64_t kMaxExpertGroups = 64;
void select_experts(const Selection& selection, const float* c, int32_t* chosen);

// out [n] = sum_j weights[j] rows[j]; weights null = 1.
void weighted_rows_f32(int64_t count, const float* const* rows, const float* weights, int64_t n,
                       float* out);

// One routed row through the inside of its expert, backwards. gate_up [2F] = (g, u) with a =
// act(g) u; da [F] = gradient of a before the routing weight w. Writes weighted_a [F] = w a and
// dgate_up [2F] (with the weight), returns da . a, the gradient of w.
float expert_inner_backward_f32(const Activation& act, int64_t ffn, const float* gate_up,
                                const float* da, float w, float* weighted_a, float* dgate_up);

}  // namespace braid
