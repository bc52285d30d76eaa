#include "braid/bench/plan.h"

#include <algorithm>
#include <memory>
#include <string_view>
#include <unordered_map>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/infer/generate.h"
#include "braid/stack/model.h"
#include "braid/train/trainer.h"

namespace braid {
namespace {

Context dry_context(Counters* counters) {
  Context ctx;
  ctx.arena = Arena::create(Arena::Mode::kDry);
  ctx.counters = counters;
  return ctx;
}

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

std::vector<WeightType> kept_types(const Model& model, const PlanOptions& options) {
  return options.types.empty() ? weight_types(model, options.weights) : options.types;
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

// All tokens are laid out as ids, though nothing is computed of them.
constexpr int64_t kMostTokens = int64_t{1} << 27;

void check_tokens(int64_t tokens, const char* what) {
  if (tokens >= 1 && tokens <= kMostTokens) return;
  throw Error(ErrorKind::kUsage,
              format("{} of {} tokens; 1 to {} can be planned", what, tokens, kMostTokens));
}

void check_inference(const PlanOptions& options) {
  check_tokens(options.prefill, "a prompt");
  for (const int64_t tokens : options.contexts) check_tokens(tokens, "a context");
}

void check_training(const PlanOptions& options) {
  int64_t tokens = 0;
  if (__builtin_mul_overflow(options.batch, options.seq_len, &tokens) ||
      __builtin_mul_overflow(tokens, options.accumulate, &tokens)) {
    tokens = INT64_MAX;
  }
  check_tokens(tokens, "a training step");
}

// One decoded token after `tokens` others, whose states are only sized, never computed.
double decode_flops(Model& model, const Context& ctx, Counters& counters, SequenceState& seq,
                    int64_t tokens) {
  std::vector<int32_t> ids(static_cast<size_t>(tokens - std::ssize(seq.tokens)), 0);
  advance(ctx, model, seq, ids);
  SequenceState probe = seq.snapshot();
  counters.product_flops = 0;
  const int32_t one = 0;
  advance(ctx, model, probe, {&one, 1});
  return counters.product_flops;
}

void plan_inference(const ModelSettings& settings, const PlanOptions& options, Plan& plan) {
  Counters counters;
  const Context ctx = dry_context(&counters);
  Model model(ctx, settings);
  plan.stack = model.canonical_stack();
  plan.settings = model.settings();
  plan.positions = position_layers(model);
  plan.windows = window_pattern(model);
  count_parameters(model, plan);
  count_types(model, options, plan);
  list_parameters(model, options, plan);
  {
    SequenceState seq = model.new_sequence(ctx, options.state);
    const std::vector<int32_t> ids(static_cast<size_t>(options.prefill), 0);
    counters.product_flops = 0;
    advance(ctx, model, seq, ids);
    plan.prefill_flops = counters.product_flops;
    plan.prefill_seconds = plan.prefill_flops / (plan.limits.peak_gflops * 1e9);
  }
  SequenceState seq = model.new_sequence(ctx, options.state);
  for (const int64_t tokens : options.contexts) {
    PlanContext c;
    c.tokens = tokens;
    c.state_bytes = model.state_bytes(tokens, options.state);
    c.state_read_bytes = model.state_read_bytes(tokens, options.state);
    c.memory = inference_memory(options.threads, settings, kept_types(model, options),
                                {tokens, 1, options.state});
    c.decode_flops = decode_flops(model, ctx, counters, seq, tokens);
    plan.contexts.push_back(c);
  }
}

TrainBatch batch_of(const PlanOptions& options) {
  TrainBatch one;
  const int64_t tokens = options.batch * options.seq_len;
  one.inputs.assign(static_cast<size_t>(tokens), 0);
  one.targets = one.inputs;
  for (int64_t s = 0; s <= options.batch; ++s) one.seq_starts.push_back(s * options.seq_len);
  return one;
}

struct DryTraining {
  double flops = 0;  // of one step of every model
  TrainingNeed need;
};

// A step of each model in turn, in one arena that holds them all.
DryTraining train_dry(std::span<const ModelSettings> models, const PlanOptions& options) {
  check_training(options);
  Counters counters;
  const Context ctx = dry_context(&counters);
  OptimConfig optim;
  optim.use_muon = options.use_muon;
  optim.trained = options.trained;
  std::vector<std::unique_ptr<Model>> built;
  std::vector<std::unique_ptr<Trainer>> trainers;
  for (const ModelSettings& settings : models) {
    built.push_back(std::make_unique<Model>(ctx, settings));
    built.back()->set_recompute(options.recompute);
    trainers.push_back(std::make_unique<Trainer>(ctx, *built.back(), optim));
  }
  const std::vector<TrainBatch> micro(static_cast<size_t>(options.accumulate), batch_of(options));
  counters.product_flops = 0;
  DryTraining out;
  size_t most = 0;
  for (size_t i = 0; i < trainers.size(); ++i) {
    trainers[i]->step(ctx, micro, 1.0);
    most = std::max(most, ctx.arena->stats().reserved);
    ctx.arena->trim();
    for (const Parameter& p : built[i]->parameters()) {
      out.need.weights += p.value.bytes();
      out.need.gradients += p.grad.defined() ? p.grad.bytes() : 0;
    }
    out.need.optimizer += trainers[i]->optimizer().state_bytes();
  }
  out.need.activations = most - std::min(most, out.need.total());
  out.flops = counters.product_flops;
  return out;
}

void plan_training(const ModelSettings& settings, const PlanOptions& options, Plan& plan) {
  const DryTraining dry = train_dry({&settings, 1}, options);
  plan.train_flops = dry.flops;
  plan.train_seconds = plan.train_flops / (plan.limits.peak_gflops * 1e9);
  plan.train_need = dry.need;
  plan.train_resident = plan.train_need.total() + kProcessBytes;
}

}  // namespace

PlanOptions fitted(PlanOptions options, int64_t positions) {
  if (positions == 0) return options;
  const PlanOptions usual;
  if (options.prefill == usual.prefill) options.prefill = std::min(options.prefill, positions);
  if (options.seq_len == usual.seq_len) options.seq_len = std::min(options.seq_len, positions);
  if (options.contexts == usual.contexts) {
    std::erase_if(options.contexts, [&](int64_t tokens) { return tokens >= positions - 1; });
    // And the token that is decoded.
    options.contexts.push_back(std::min(positions - 1, kMostTokens));
  }
  return options;
}

TrainingNeed training_need(std::span<const ModelSettings> models, const PlanOptions& options) {
  return train_dry(models, options).need;
}

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
  check_inference(options);
  check_training(options);
  plan_inference(settings, options, plan);
  for (PlanContext& c : plan.contexts) c.decode_seconds = decode_seconds(plan, c, limits);
  plan_training(settings, options, plan);
  return plan;
}

}  // namespace braid
