#pragma once
// Which experts a token goes to and with what weight (specs/attention-and-experts.md section 5).

#include <vector>

#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

struct RouterConfig {
  bool sigmoid = false;  // scores: sigmoid (DeepSeek V3, Kimi) or softmax over all experts (Qwen)
  int64_t top_k = 1;
  bool renormalise = true;  // weights of a token's experts sum to `scale`
  double scale = 1;
  int64_t groups = 1;  // of neighbouring experts; selection is confined to `topk_groups` of them
  int64_t topk_groups = 1;
  double aux_coef = 0;  // of the balance loss below; its gradient joins in the backward pass
};

// Limits of top_k and groups.
int64_t max_experts_per_token();
int64_t max_expert_groups();

struct Routing {
  Tensor experts;              // i32 [T, k], most wanted first
  Tensor weights;              // [T, k], differentiable
  std::vector<int64_t> loads;  // [E] tokens sent to each expert; zeros on a dry context
  double aux_loss =
      0;  // aux_coef E sum_e f_e P_e (2101.03961): f_e = share of tokens sent to e (sums to k),
          // P_e = mean score, scores of a token normalised to sum 1. 0 when aux_coef is 0.
};

// logits [T, E]. Selection by score + bias, weights from the scores alone; bias [E] or null. Ties
// go to the lowest index. The auxiliary loss is taken over the T tokens of this call; the tape is
// told its value as "balance" (Tape::add_loss).
Routing route(const Context& ctx, const Tensor& logits, const Parameter* bias,
              const RouterConfig& config);

// Gradient of the logits: from the weights' gradient dw [T, k], and the auxiliary loss. scores [T,
// E] and the routing are those of the forward pass.
Tensor route_backward(const Context& ctx, const Tensor& scores, const Tensor& experts,
                      const std::vector<int64_t>& loads, const RouterConfig& config,
                      const Tensor& dw);

}  // namespace braid
