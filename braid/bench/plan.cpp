#include "braid/bench/plan.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "braid/bench/plan_steps.h"
#include "braid/stack/model.h"

namespace braid {
namespace {

void count_parameters(const Model& model, Plan& plan) {
  plan.layers.push_back({"embedding", "embed_", 0});
  for (const Model::SubLayer& l : model.sublayers()) plan.layers.push_back({l.name, l.path, 0});
  plan.layers.push_back({"other", "", 0});
  std::unordered_map<std::string_view, PlanLayer*> layers;  // by "layers.7."
  for (PlanLayer& l : plan.layers) layers.emplace(l.path, &l);
  const auto owner = [&](std::string_view name) {
    if (name.starts_with(plan.layers.front().path)) return &plan.layers.front();
    const auto found = layers.find(name.substr(0, name.find('.', name.find('.') + 1) + 1));
    return found != layers.end() ? found->second : &plan.layers.back();
  };
  for (const Parameter& p : model.parameters()) {
    owner(p.name)->parameters += p.value.count();
    plan.weight_bytes += p.bytes();
  }
  plan.parameters = model.parameters().trained_count();
  plan.active_parameters = plan.parameters - model.idle_parameters();
  // An embedding that is not the head as well is read by one row a token, meta tokens by none.
  const ModelSettings& s = model.settings();
  const int64_t rows_only =
      ((s.tie_embeddings ? 0 : s.vocab) + s.positions + s.meta_tokens) * s.width;
  plan.token_weight_bytes = static_cast<size_t>(plan.active_parameters - rows_only) * sizeof(float);
  plan.recurrent_bytes = model.state_bytes(0);
}

constexpr KvType kKvTypes[] = {KvType::kF32, KvType::kBF16, KvType::kQ8};
constexpr WeightType kWeightTypes[] = {WeightType::kF32, WeightType::kBF16, WeightType::kQ8,
                                       WeightType::kQ4};

size_t bytes_of(const Model& model, const std::vector<WeightType>& types) {
  size_t bytes = 0;
  auto type = types.begin();
  for (const Parameter& p : model.parameters()) bytes += bytes_as(p, *type++);
  return bytes;
}

void list_parameters(const Model& model, const PlanOptions& options, Plan& plan) {
  const std::vector<WeightType> types = kept_types(model, options);
  plan.types = type_shares(model.parameters(), types);
  auto type = types.begin();
  for (const Parameter& p : model.parameters())
    plan.list.push_back(
        {p.name, p.value.shape(), *type++, p.role != ParamRole::kBuffer, p.init.str()});
}

void count_types(const Model& model, const PlanOptions& options, Plan& plan) {
  constexpr int64_t kLong = int64_t{1} << 20;  // windows are full there
  for (size_t i = 0; i < std::size(kKvTypes); ++i) {
    const StateOptions kept{kKvTypes[i]};
    plan.token_state_bytes[i] =
        static_cast<double>(model.state_bytes(2 * kLong, kept) - model.state_bytes(kLong, kept)) /
        static_cast<double>(kLong);
  }
  for (size_t i = 0; i < std::size(kWeightTypes); ++i)
    plan.typed_weight_bytes[i] = bytes_of(model, weight_types(model, kWeightTypes[i]));
  plan.inference_weight_bytes = bytes_of(model, kept_types(model, options));
  // One token reads the same share of the bytes as of the numbers.
  plan.token_weight_bytes = static_cast<size_t>(static_cast<double>(plan.token_weight_bytes) *
                                                static_cast<double>(plan.inference_weight_bytes) /
                                                static_cast<double>(plan.typed_weight_bytes[0]));
}

void plan_inference(const ModelSettings& settings, const PlanOptions& options,
                    const DrySteps& steps, Plan& plan) {
  const Context ctx = dry_context(nullptr);
  const Model model(ctx, settings);
  plan.stack = model.canonical_stack();
  plan.settings = model.settings();
  plan.positions = position_layers(model);
  plan.windows = window_pattern(model);
  count_parameters(model, plan);
  count_types(model, options, plan);
  list_parameters(model, options, plan);
  plan.prefill_flops = steps.prefill_flops;
  plan.prefill_seconds = plan.prefill_flops / (plan.limits.peak_gflops * 1e9);
  for (size_t i = 0; i < options.contexts.size(); ++i) {
    PlanContext c;
    c.tokens = options.contexts[i];
    c.state_bytes = model.state_bytes(c.tokens, options.state);
    c.state_read_bytes = model.state_read_bytes(c.tokens, options.state);
    c.memory = steps.contexts[i].memory;
    c.decode_flops = steps.contexts[i].decode_flops;
    plan.contexts.push_back(c);
  }
}

void plan_training(const DrySteps& steps, Plan& plan) {
  plan.train_flops = steps.train_flops;
  plan.train_seconds = plan.train_flops / (plan.limits.peak_gflops * 1e9);
  plan.train_need = steps.train_need;
  plan.train_resident = plan.train_need.total() + kProcessBytes;
}

}  // namespace

size_t weight_bytes(const ModelSettings& settings) {
  const Context ctx = dry_context(nullptr);
  return Model(ctx, settings, Model::Fill::kDeferred).parameters().bytes();
}

Plan list_plan(const ModelSettings& settings, const PlanOptions& options) {
  const Context ctx = dry_context(nullptr);
  const Model model(ctx, settings);
  Plan plan;
  plan.stack = model.canonical_stack();
  list_parameters(model, options, plan);
  return plan;
}

size_t read_bytes(const Plan& plan, const PlanContext& c) {
  return plan.token_weight_bytes + c.state_read_bytes;
}

double decode_seconds(const Plan& plan, const PlanContext& c, const MachineLimits& limits) {
  // What does not grow with the context is recurrent: read and written back. The rest is only
  // read.
  const double recurrent = static_cast<double>(std::min(plan.recurrent_bytes, c.state_read_bytes));
  const double read = static_cast<double>(read_bytes(plan, c)) - recurrent;
  const double memory =
      read / (limits.read_gbs * 1e9) + 2 * recurrent / (limits.read_write_gbs * 1e9);
  return std::max(memory, c.decode_flops / (limits.peak_gflops * 1e9));
}

Plan make_plan(const ModelSettings& settings, const PlanOptions& options,
               const MachineLimits& limits) {
  Plan plan;
  plan.limits = limits;
  const DrySteps steps = dry_steps(settings, options);
  plan_inference(settings, options, steps, plan);
  for (PlanContext& c : plan.contexts) c.decode_seconds = decode_seconds(plan, c, limits);
  plan_training(steps, plan);
  return plan;
}

}  // namespace braid
