#pragma once

#include <memory>
#include <vector>

#include "braid/layers/layer.h"
#include "braid/stack/spec.h"

namespace braid {

// Parallel heads: every branch reads the same input. `a | b` (Hymba, arXiv 2411.13676) gives the
// mean of the branches' RMS-normed outputs, each with a learned gain per channel; `a + b`
// (Falcon-H1, 2507.22448) their sum.
class ParallelLayer final : public Layer {
 public:
  // scopes: the prefix of each branch's parameter names below this layer's own.
  ParallelLayer(Join join, std::vector<std::unique_ptr<Layer>> branches,
                std::vector<std::string> scopes, const LayerEnv& env, ParamBuilder& params);
  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override;
  std::unique_ptr<LayerState> make_state(const Context& ctx,
                                         const StateOptions& options) const override;
  size_t state_bytes(int64_t tokens, const StateOptions& options) const override;
  size_t state_read_bytes(int64_t tokens, const StateOptions& options) const override;
  Options options() const override { return {}; }
  int64_t idle_parameters() const override;
  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t tokens) const override;
  void after_step(const Context& ctx) override;
  const std::vector<std::unique_ptr<Layer>>& branches() const { return branches_; }

 private:
  std::vector<std::unique_ptr<Layer>> branches_;
  std::vector<std::string> scopes_;  // "0.gqa.": where each branch's parameters are
  std::vector<Parameter*> gains_;    // none where the outputs are summed
  std::vector<bool> has_state_;
  double eps_;
};

}  // namespace braid
