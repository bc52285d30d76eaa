#pragma once
// The mixture-of-experts channel, for callers that want its statistics.

#include "braid/layers/layer.h"
#include "braid/ops/moe_experts.h"
#include "braid/ops/moe_router.h"

namespace braid {

struct MoeConfig {
  int64_t experts = 8;
  int64_t top_k = 2;
  int64_t ffn = 0;  // of one expert; 0: 8/3 of the width / top_k, rounded up to a multiple of 32
  std::string router = "softmax";
  bool renormalise = true;
  double scale = 1;
  int64_t shared = 0;  // width of the shared expert, 0 = none
  bool shared_gate = false;
  std::string balance = "bias";  // none | bias | aux
  double aux_coef = 1e-3;
  double bias_rate = 1e-3;
  int64_t groups = 1;
  int64_t topk_groups = 1;
  bool router_bias = false;
  bool expert_bias = false;
  std::string act = "silu";  // silu | gelu_tanh | clamped; ungated silu | gelu_tanh | relu2
  double limit = 7;          // of clamped
  double alpha = 1.702;
  bool gated = true;  // act(gate) * up, else act(up)
  void visit(OptionVisitor& v);
};

Act moe_act(const MoeConfig& config);

class MoeLayer final : public Layer {
 public:
  MoeLayer(const MoeConfig& config, const LayerEnv& env, int64_t ffn, ParamBuilder& params);

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override;
  Options options() const override { return write_options(config_); }
  int64_t idle_parameters() const override;
  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t tokens) const override;
  // balance=bias: moves every expert's selection bias by bias_rate towards the mean load, then
  // forgets the loads.
  void after_step(const Context& ctx) override;

  // Tokens sent to each expert in recorded forwards since the last after_step. A checkpointed
  // sub-layer runs recorded once, when it is recomputed, so nothing is counted twice.
  const std::vector<int64_t>& loads() const { return loads_; }

 private:
  RouterConfig router() const;

  MoeConfig config_;
  Activation act_;
  Parameter* gate_;
  Parameter* gate_bias_ = nullptr;
  Parameter* bias_ = nullptr;
  ExpertWeights experts_ = {};
  struct Shared {
    Parameter *gate_proj, *up_proj, *down_proj, *gate;
  };
  Shared shared_ = {};
  std::vector<int64_t> loads_;
};

}  // namespace braid
