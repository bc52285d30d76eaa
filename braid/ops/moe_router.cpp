#include "braid/ops/moe_router.h"

#include <algorithm>

#include "braid/core/parallel.h"
#include "braid/kernels/moe/moe.h"
#include "braid/ops/column_sums.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

constexpr float kTiny = 1e-20f;  // DeepSeek's guard of the renormalising sum

int64_t token_grain(int64_t tokens, int64_t experts) {
  return std::max<int64_t>({1, (1 << 13) / experts, (tokens + 63) / 64});
}

// The sum that turns scores into probabilities: 1 for a softmax.
float score_sum(const RouterConfig& config, const float* s, int64_t experts) {
  if (!config.sigmoid) return 1.0f;
  float sum = kTiny;
  for (int64_t e = 0; e < experts; ++e) sum += s[e];
  return sum;
}

// The weights of one token's chosen experts.
void token_weights(const RouterConfig& config, const float* s, const int32_t* chosen, float* w) {
  float by = static_cast<float>(config.scale);
  if (config.renormalise) {
    float sum = kTiny;
    for (int64_t j = 0; j < config.top_k; ++j) sum += s[chosen[j]];
    by /= sum;
  }
  for (int64_t j = 0; j < config.top_k; ++j) w[j] = by * s[chosen[j]];
}

// ds [E] from the gradient of one token's weights.
void score_gradient(const RouterConfig& config, const float* s, const int32_t* chosen,
                    const float* dw, float* ds) {
  const float scale = static_cast<float>(config.scale);
  if (!config.renormalise) {
    for (int64_t j = 0; j < config.top_k; ++j) ds[chosen[j]] += scale * dw[j];
    return;
  }
  float sum = kTiny, dot = 0;
  for (int64_t j = 0; j < config.top_k; ++j) {
    sum += s[chosen[j]];
    dot += dw[j] * s[chosen[j]];
  }
  for (int64_t j = 0; j < config.top_k; ++j) ds[chosen[j]] += scale / sum * (dw[j] - dot / sum);
}

}  // namespace

int64_t max_experts_per_token() { return kMaxExpertsPerToken; }
int64_t max_expert_groups() { return kMaxExpertGroups; }

Routing route(const Context& ctx, const Tensor& logits, const Parameter* bias,
              const RouterConfig& config) {
  const Rows n = rows_of(logits);
  const int64_t experts = n.cols, k = config.top_k;
  BRAID_CHECK(bias == nullptr || bias->value.count() == experts);
  BRAID_CHECK(k >= 1 && k <= experts && k <= kMaxExpertsPerToken);
  const Tensor scores = Tensor::empty(ctx, {n.rows, experts});
  Routing r;
  r.experts = Tensor::empty(ctx, {n.rows, k}, DType::kI32);
  r.weights = Tensor::empty(ctx, {n.rows, k});
  r.loads.assign(static_cast<size_t>(experts), 0);
  const Selection selection{experts, k, config.groups, config.topk_groups};
  const int64_t grain = token_grain(n.rows, experts);
  const ColumnSums shares(ctx, n.rows, grain, experts);
  parallel_for(ctx, n.rows, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> biased(static_cast<size_t>(experts));
    float* share = shares.range(begin);
    for (int64_t t = begin; t < end; ++t) {
      float* s = scores.data() + t * experts;
      int32_t* chosen = r.experts.data<int32_t>() + t * k;
      router_scores_f32(config.sigmoid, experts, logits.data() + t * n.stride, s);
      for (int64_t e = 0; e < experts; ++e) {
        biased[static_cast<size_t>(e)] = bias != nullptr ? s[e] + bias->value.data()[e] : s[e];
      }
      select_experts(selection, biased.data(), chosen);
      token_weights(config, s, chosen, r.weights.data() + t * k);
      if (config.aux_coef == 0) continue;
      const float inverse = 1.0f / score_sum(config, s, experts);
      for (int64_t e = 0; e < experts; ++e) share[e] += inverse * s[e];
    }
  });
  if (!ctx.dry()) {
    for (int64_t i = 0; i < n.rows * k; ++i) {
      ++r.loads[static_cast<size_t>(r.experts.data<int32_t>()[i])];
    }
  }
  if (config.aux_coef != 0) {
    const Tensor sums = Tensor::zeros(ctx, {experts});
    shares.add_to(ctx, sums);
    const double tokens = static_cast<double>(std::max<int64_t>(1, n.rows));
    for (int64_t e = 0; e < experts && !ctx.dry(); ++e) {
      r.aux_loss += config.aux_coef * static_cast<double>(experts) *
                    static_cast<double>(r.loads[static_cast<size_t>(e)]) / tokens * sums.data()[e] /
                    tokens;
    }
  }
  if (Tape* tape = recording(ctx, {&logits})) {
    tape->record(r.weights, [logits, scores, chosen = r.experts, loads = r.loads, config,
                             aux_loss = r.aux_loss](Tape& t, const Tensor& dw) {
      if (config.aux_coef != 0) t.add_loss("balance", aux_loss);
      t.add(logits, route_backward(t.context(), scores, chosen, loads, config, dw));
    });
  }
  return r;
}

Tensor route_backward(const Context& ctx, const Tensor& scores, const Tensor& chosen,
                      const std::vector<int64_t>& loads, const RouterConfig& config,
                      const Tensor& dw) {
  const int64_t tokens = scores.size(0), experts = scores.size(1), k = config.top_k;
  Tensor dlogits = Tensor::empty(ctx, scores.shape());
  // Gradient of the auxiliary loss by a token's probability of expert e.
  std::vector<float> dshare(static_cast<size_t>(experts), 0.0f);
  const double t2 = static_cast<double>(tokens) * static_cast<double>(tokens);
  for (size_t e = 0; e < dshare.size(); ++e) {
    dshare[e] = static_cast<float>(ctx.loss_share * config.aux_coef * static_cast<double>(experts) *
                                   static_cast<double>(loads[e]) / t2);
  }
  parallel_for(ctx, tokens, token_grain(tokens, experts), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float* s = scores.data() + t * experts;
      float* ds = dlogits.data() + t * experts;  // holds the scores' gradient first
      std::fill_n(ds, experts, 0.0f);
      if (config.aux_coef != 0) {
        const float sum = score_sum(config, s, experts);
        float dot = 0;
        for (int64_t e = 0; e < experts; ++e) dot += dshare[static_cast<size_t>(e)] * s[e];
        // A softmax's own normalisation is part of its derivative below.
        const float mean = config.sigmoid ? dot / sum : 0.0f;
        for (int64_t e = 0; e < experts; ++e) {
          ds[e] = (dshare[static_cast<size_t>(e)] - mean) / sum;
        }
      }
      score_gradient(config, s, chosen.data<int32_t>() + t * k, dw.data() + t * k, ds);
      if (config.sigmoid) {
        for (int64_t e = 0; e < experts; ++e) ds[e] *= s[e] * (1.0f - s[e]);
      } else {
        float dot = 0;
        for (int64_t e = 0; e < experts; ++e) dot += ds[e] * s[e];
        for (int64_t e = 0; e < experts; ++e) ds[e] = s[e] * (ds[e] - dot);
      }
    }
  });
  return dlogits;
}

}  // namespace braid
