#include "braid/stack/parallel_layer.h"

#include <cmath>

#include "braid/base/format.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/norm.h"
#include "braid/state/group_state.h"

namespace braid {

ParallelLayer::ParallelLayer(Join join, std::vector<std::unique_ptr<Layer>> branches,
                             std::vector<std::string> scopes, const LayerEnv& env,
                             ParamBuilder& params)
    : branches_(std::move(branches)), scopes_(std::move(scopes)), eps_(env.norm_eps) {
  for (size_t i = 0; i < branches_.size(); ++i) {
    has_state_.push_back(branches_[i]->make_state(params.context()) != nullptr);
    if (join == Join::kSum) continue;
    gains_.push_back(&params.vector(format("branch_norm.{}.weight", i), {env.width}, Init::ones()));
  }
}

Tensor ParallelLayer::forward(const Context& ctx, const Tensor& x, const Batch& batch,
                              States states) {
  Tensor sum;
  size_t member = 0;
  std::vector<LayerState*> own(states.size());
  for (size_t b = 0; b < branches_.size(); ++b) {
    States branch_states;
    if (!states.empty() && has_state_[b]) {
      for (size_t s = 0; s < states.size(); ++s) {
        own[s] = &static_cast<GroupState&>(*states[s]).member(member);
      }
      branch_states = own;
      ++member;
    }
    Tensor y = branches_[b]->forward(ctx, x, batch, branch_states);
    if (!gains_.empty()) y = rms_norm(ctx, y, *gains_[b], eps_);
    sum = sum.defined() ? add(ctx, sum, y) : y;
  }
  if (gains_.empty()) return sum;
  return scale(ctx, sum, 1.0f / static_cast<float>(branches_.size()));
}

std::unique_ptr<LayerState> ParallelLayer::make_state(const Context& ctx,
                                                      const StateOptions& options) const {
  std::vector<std::unique_ptr<LayerState>> members;
  for (const auto& b : branches_) {
    if (auto s = b->make_state(ctx, options)) members.push_back(std::move(s));
  }
  if (members.empty()) return nullptr;
  return std::make_unique<GroupState>(std::move(members));
}

size_t ParallelLayer::state_bytes(int64_t tokens, const StateOptions& options) const {
  size_t n = 0;
  for (const auto& b : branches_) n += b->state_bytes(tokens, options);
  return n;
}

size_t ParallelLayer::state_read_bytes(int64_t tokens, const StateOptions& options) const {
  size_t n = 0;
  for (const auto& b : branches_) n += b->state_read_bytes(tokens, options);
  return n;
}

int64_t ParallelLayer::idle_parameters() const {
  int64_t n = 0;
  for (const auto& b : branches_) n += b->idle_parameters();
  return n;
}

std::vector<double> ParallelLayer::reference(const ReferenceParams& params,
                                             std::span<const double> x, int64_t tokens) const {
  const size_t width = x.size() / static_cast<size_t>(tokens);
  std::vector<double> sum(x.size(), 0.0);
  for (size_t b = 0; b < branches_.size(); ++b) {
    ReferenceParams own;
    own.links = params.links;
    for (const auto& [name, value] : params.values) {
      if (name.starts_with(scopes_[b])) own.values.emplace(name.substr(scopes_[b].size()), value);
    }
    const std::vector<double> y = branches_[b]->reference(own, x, tokens);
    if (gains_.empty()) {
      for (size_t i = 0; i < y.size(); ++i) sum[i] += y[i];
      continue;
    }
    const std::vector<double>& gain = params[format("branch_norm.{}.weight", b)];
    for (size_t t = 0; t < static_cast<size_t>(tokens); ++t) {
      double square = 0;
      for (size_t i = 0; i < width; ++i) square += y[t * width + i] * y[t * width + i];
      const double rstd = 1.0 / std::sqrt(square / static_cast<double>(width) + eps_);
      for (size_t i = 0; i < width; ++i) {
        sum[t * width + i] +=
            y[t * width + i] * rstd * gain[i] / static_cast<double>(branches_.size());
      }
    }
  }
  return sum;
}

void ParallelLayer::after_step(const Context& ctx) {
  for (const auto& b : branches_) b->after_step(ctx);
}

}  // namespace braid
