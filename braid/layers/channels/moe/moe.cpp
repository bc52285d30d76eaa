#include "braid/layers/channels/moe/moe.h"

#include "braid/base/format.h"
#include "braid/layers/channel.h"
#include "braid/layers/channels/act.h"
#include "braid/layers/channels/default_ffn.h"
#include "braid/layers/channels/moe/moe_ref.h"
#include "braid/ops/bias.h"
#include "braid/ops/linear.h"

namespace braid {
namespace {

void require(bool holds, const std::string& message) {
  if (!holds) throw Error(ErrorKind::kUsage, "moe: " + message);
}

void check(const MoeConfig& c) {
  // More than any model has; what is kept for each of them would be felt.
  constexpr int64_t kMostExperts = int64_t{1} << 16;
  require(c.experts >= 1 && c.experts <= kMostExperts,
          format("experts={} must be 1 to {}", c.experts, kMostExperts));
  require(c.top_k >= 1 && c.top_k <= c.experts,
          format("top_k={} must be between 1 and experts={}", c.top_k, c.experts));
  require(c.top_k <= max_experts_per_token(),
          format("top_k={} is more than {}", c.top_k, max_experts_per_token()));
  require(c.ffn >= 0, format("ffn={} must be positive, or 0 for the default", c.ffn));
  require(c.shared >= 0, format("shared={} must be positive, or 0 for none", c.shared));
  require(c.router == "softmax" || c.router == "sigmoid",
          format("router={} is neither softmax nor sigmoid", c.router));
  require(c.balance == "none" || c.balance == "bias" || c.balance == "aux",
          format("balance={} is none of none, bias, aux", c.balance));
  require(!c.shared_gate || c.shared > 0, "shared_gate=true needs a shared expert, shared=0");
  require(c.groups >= 1 && c.experts % c.groups == 0,
          format("groups={} must divide experts={}", c.groups, c.experts));
  require(c.groups <= max_expert_groups(),
          format("groups={} is more than {}", c.groups, max_expert_groups()));
  require(c.topk_groups >= 1 && c.topk_groups <= c.groups,
          format("topk_groups={} must be between 1 and groups={}", c.topk_groups, c.groups));
  require(c.experts / c.groups * c.topk_groups >= c.top_k,
          format("top_k={} experts do not fit in topk_groups={} groups of {}", c.top_k,
                 c.topk_groups, c.experts / c.groups));
  require(c.limit > 0, format("limit={} must be positive", c.limit));
  require(c.act == "clamped" || (c.limit == MoeConfig().limit && c.alpha == MoeConfig().alpha),
          format("limit and alpha belong to act=clamped, not act={}", c.act));
}

}  // namespace

void MoeConfig::visit(OptionVisitor& v) {
  v.field("experts", experts, 8);
  v.field("top_k", top_k, 2);
  v.field("ffn", ffn, 0);
  v.field("router", router, "softmax");
  v.field("renormalise", renormalise, true);
  v.field("scale", scale, 1.0);
  v.field("shared", shared, 0);
  v.field("shared_gate", shared_gate, false);
  v.field("balance", balance, "bias");
  v.field("aux_coef", aux_coef, 1e-3);
  v.field("bias_rate", bias_rate, 1e-3);
  v.field("groups", groups, 1);
  v.field("topk_groups", topk_groups, 1);
  v.field("router_bias", router_bias, false);
  v.field("expert_bias", expert_bias, false);
  v.field("act", act, "silu");
  v.field("limit", limit, 7.0);
  v.field("alpha", alpha, 1.702);
  v.field("gated", gated, true);
}

Act moe_act(const MoeConfig& c) {
  if (c.gated) return read_act("moe", c.act, {Act::kSilu, Act::kGeluTanh, Act::kClamped});
  return read_act("moe with gated=false", c.act, {Act::kSilu, Act::kGeluTanh, Act::kRelu2});
}

MoeLayer::MoeLayer(const MoeConfig& config, const LayerEnv& env, int64_t ffn, ParamBuilder& params)
    : config_(config),
      act_{moe_act(config), static_cast<float>(config.limit), static_cast<float>(config.alpha)},
      loads_(static_cast<size_t>(config.experts), 0) {
  const int64_t e = config.experts, d = env.width;
  gate_ = &params.gate_matrix("gate.weight", e, d, env.init_std);
  if (config.router_bias) gate_bias_ = &params.vector("gate.bias", {e}, Init::zeros());
  if (config.balance == "bias") {
    bias_ = &params.add("gate.e_score_correction_bias", ParamRole::kBuffer, {e}, Init::zeros());
  }
  experts_.act = act_;
  experts_.gated = config.gated;
  const int64_t rows = (config.gated ? 2 : 1) * ffn;
  const std::string first = config.gated ? "experts.gate_up_proj" : "experts.up_proj";
  experts_.gate_up =
      &params.add(first, ParamRole::kMatrix, {e, rows, d}, Init::normal(env.init_std));
  if (config.gated) experts_.gate_up->row_splits.assign(static_cast<size_t>(2 * e), ffn);
  experts_.down = &params.add("experts.down_proj", ParamRole::kMatrix, {e, d, ffn},
                              Init::normal(env.out_init_std));
  if (config.expert_bias) {
    experts_.gate_up_bias = &params.vector(first + "_bias", {e, rows}, Init::zeros());
    experts_.down_bias = &params.vector("experts.down_proj_bias", {e, d}, Init::zeros());
  }
  if (config.shared == 0) return;
  ParamBuilder shared = params.scope("shared_expert");
  if (config.gated)
    shared_.gate_proj = &shared.matrix("gate_proj.weight", config.shared, d, env.init_std);
  shared_.up_proj = &shared.matrix("up_proj.weight", config.shared, d, env.init_std);
  shared_.down_proj = &shared.matrix("down_proj.weight", d, config.shared, env.out_init_std);
  if (!config.shared_gate) return;
  shared_.gate = &params.add("shared_expert_gate.weight", ParamRole::kVector, {1, d},
                             Init::normal(env.init_std));
}

RouterConfig MoeLayer::router() const {
  RouterConfig r;
  r.sigmoid = config_.router == "sigmoid";
  r.top_k = config_.top_k;
  r.renormalise = config_.renormalise;
  r.scale = config_.scale;
  r.groups = config_.groups;
  r.topk_groups = config_.topk_groups;
  r.aux_coef = config_.balance == "aux" ? config_.aux_coef : 0;
  return r;
}

Tensor MoeLayer::forward(const Context& ctx, const Tensor& x, const Batch&, States) {
  // Everything that reads x whole, in one product.
  std::vector<Parameter*> inputs = {gate_};
  for (Parameter* p : {shared_.gate_proj, shared_.up_proj, shared_.gate}) {
    if (p != nullptr) inputs.push_back(p);
  }
  const std::vector<Tensor> in = linear_many(ctx, x, inputs);
  const Routing routing = route(ctx, biased(ctx, in[0], gate_bias_), bias_, router());
  if (ctx.tape != nullptr) {
    for (size_t e = 0; e < loads_.size(); ++e) loads_[e] += routing.loads[e];
  }
  Tensor y = moe_experts(ctx, x, experts_, routing.experts, routing.weights);
  if (config_.shared == 0) return y;
  const Tensor inside =
      config_.gated ? gated(ctx, in[1], in[2], act_) : activate(ctx, in[1], act_.act);
  Tensor shared = linear(ctx, inside, *shared_.down_proj);
  if (shared_.gate != nullptr) shared = gate_rows(ctx, shared, in.back());
  return add(ctx, y, shared);
}

int64_t MoeLayer::idle_parameters() const {
  int64_t all = 0;
  for (const Parameter* p :
       {experts_.gate_up, experts_.down, experts_.gate_up_bias, experts_.down_bias}) {
    if (p != nullptr) all += p->value.count();
  }
  return all / config_.experts * (config_.experts - config_.top_k);
}

std::vector<double> MoeLayer::reference(const ReferenceParams& params, std::span<const double> x,
                                        int64_t tokens) const {
  const RouterConfig r = router();
  const auto find = [&](bool has, const char* name) { return has ? params[name].data() : nullptr; };
  const bool shared = config_.shared > 0;
  const int64_t width = experts_.down->value.size(1);
  const MoeRef<double> m{width,
                         experts_.down->value.size(2),
                         config_.experts,
                         config_.top_k,
                         r.sigmoid,
                         r.renormalise,
                         r.scale,
                         r.groups,
                         r.topk_groups,
                         config_.shared,
                         params["gate.weight"].data(),
                         find(bias_ != nullptr, "gate.e_score_correction_bias"),
                         params[config_.gated ? "experts.gate_up_proj" : "experts.up_proj"].data(),
                         params["experts.down_proj"].data(),
                         find(shared && config_.gated, "shared_expert.gate_proj.weight"),
                         find(shared, "shared_expert.up_proj.weight"),
                         find(shared, "shared_expert.down_proj.weight"),
                         find(config_.shared_gate, "shared_expert_gate.weight"),
                         act_,
                         find(config_.router_bias, "gate.bias"),
                         find(config_.expert_bias,
                              config_.gated ? "experts.gate_up_proj_bias" : "experts.up_proj_bias"),
                         find(config_.expert_bias, "experts.down_proj_bias"),
                         config_.gated};
  std::vector<double> y;
  for (int64_t t = 0; t < tokens; ++t) {
    const std::vector<double> row = moe_ref(m, x.data() + t * width);
    y.insert(y.end(), row.begin(), row.end());
  }
  return y;
}

void MoeLayer::after_step(const Context& ctx) {
  if (bias_ != nullptr && !bias_->frozen && !ctx.dry()) {
    int64_t total = 0;
    for (const int64_t load : loads_) total += load;
    for (size_t e = 0; e < loads_.size(); ++e) {
      const int64_t short_of_mean = total - loads_[e] * config_.experts;
      const float sign = short_of_mean > 0 ? 1.0f : short_of_mean < 0 ? -1.0f : 0.0f;
      bias_->value.data()[e] += static_cast<float>(config_.bias_rate) * sign;
    }
  }
  loads_.assign(loads_.size(), 0);
}

std::unique_ptr<Layer> make_moe(const Options& options, const LayerEnv& env, ParamBuilder& params) {
  const auto config = read_options<MoeConfig>("moe", options);
  check(config);
  const int64_t ffn = config.ffn > 0 ? config.ffn : default_expert_ffn(env.width, config.top_k);
  return std::make_unique<MoeLayer>(config, env, ffn, params);
}

}  // namespace braid
