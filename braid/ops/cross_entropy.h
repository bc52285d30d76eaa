#pragma once

#include <cstdint>
#include <span>

#include "braid/ops/tape.h"

namespace braid {

struct LossConfig {
  double softcap = 0;   // l = cap tanh(z / cap) when > 0
  double z_coef = 0;    // + z_coef * mean(logsumexp^2)
  int64_t divisor = 0;  // N of the mean: valid targets of the global batch; 0 = those of this call
};

constexpr int32_t kIgnoreTarget = -100;

struct LossResult {
  Tensor loss;  // [1]: (sum of nll + z_coef lse^2 over valid targets) / N; seeds the backward pass
  double nll_sum = 0;   // nats, without the z term
  int64_t targets = 0;  // valid ones
};

// Next-token loss of the head: logits = h [T, D] head^T, head [V, D]. Works through row chunks, so
// that [T, V] never exists; when recording, gradients are formed in the same pass while a chunk's
// probabilities are at hand. targets: T entries in [0, V) or kIgnoreTarget.
// (specs/objectives-and-precision.md section 1)
LossResult lm_loss(const Context& ctx, const Tensor& h, Parameter& head,
                   std::span<const int32_t> targets, const LossConfig& config);

// The negative log-likelihood of every target, nats, 0 where ignored. No gradients.
std::vector<float> lm_nll(const Context& ctx, const Tensor& h, Parameter& head,
                          std::span<const int32_t> targets, double softcap);

}  // namespace braid
