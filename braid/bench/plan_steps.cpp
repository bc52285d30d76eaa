#include "braid/bench/plan_steps.h"

#include <algorithm>
#include <memory>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/infer/generate.h"
#include "braid/stack/model.h"
#include "braid/train/trainer.h"

namespace braid {

Context dry_context(Counters* counters) {
  Context ctx;
  ctx.arena = Arena::create(Arena::Mode::kDry);
  ctx.counters = counters;
  return ctx;
}

std::vector<WeightType> kept_types(const Model& model, const PlanOptions& options) {
  return options.types.empty() ? weight_types(model, options.weights) : options.types;
}

namespace {

void check_tokens(int64_t tokens, const char* what) {
  if (tokens >= 1 && tokens <= kMostPlannedTokens) return;
  throw Error(ErrorKind::kUsage,
              format("{} of {} tokens; 1 to {} can be planned", what, tokens, kMostPlannedTokens));
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

// One decoded token after `tokens` others, whose states are only sized, never computed; where the
// sequence is full then, the last one it had room for.
double decode_flops(Model& model, const Context& ctx, Counters& counters, SequenceState& seq,
                    int64_t tokens) {
  tokens = std::min(tokens, most_tokens(model.settings()) - 1);
  std::vector<int32_t> ids(static_cast<size_t>(tokens - std::ssize(seq.tokens)), 0);
  advance(ctx, model, seq, ids);
  SequenceState probe = seq.snapshot();
  counters.product_flops = 0;
  const int32_t one = 0;
  advance(ctx, model, probe, {&one, 1});
  return counters.product_flops;
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

}  // namespace

DrySteps dry_steps(const ModelSettings& settings, const PlanOptions& options) {
  check_inference(options);
  check_training(options);
  DrySteps out;
  Counters counters;
  const Context ctx = dry_context(&counters);
  Model model(ctx, settings);
  {
    SequenceState seq = model.new_sequence(ctx, options.state);
    const std::vector<int32_t> ids(static_cast<size_t>(options.prefill), 0);
    advance(ctx, model, seq, ids);
    out.prefill_flops = counters.product_flops;
  }
  SequenceState seq = model.new_sequence(ctx, options.state);
  for (const int64_t tokens : options.contexts) {
    DrySteps::AtContext c;
    c.memory = inference_memory(options.threads, settings, kept_types(model, options),
                                {tokens, 1, options.state});
    c.decode_flops = decode_flops(model, ctx, counters, seq, tokens);
    out.contexts.push_back(c);
  }
  const DryTraining training = train_dry({&settings, 1}, options);
  out.train_flops = training.flops;
  out.train_need = training.need;
  return out;
}

TrainingNeed training_need(std::span<const ModelSettings> models, const PlanOptions& options) {
  check_training(options);
  return train_dry(models, options).need;
}

}  // namespace braid
