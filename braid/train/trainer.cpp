#include "braid/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "braid/base/format.h"

namespace braid {
namespace {

constexpr int64_t kMostLeftOut = 32;      // in a row: what follows would be left out too
constexpr size_t kNormsBeforeGuard = 16;  // a median of fewer says little

Batch layout(const TrainBatch& b) {
  Batch batch;
  batch.seq_starts = b.seq_starts;
  batch.offsets.assign(b.seq_starts.size() - 1, 0);
  return batch;
}

int64_t count_targets(std::span<const TrainBatch> batches) {
  int64_t n = 0;
  for (const TrainBatch& b : batches) {
    n += std::ssize(b.targets) - std::count(b.targets.begin(), b.targets.end(), kIgnoreTarget);
  }
  return n;
}

}  // namespace

Trainer::Trainer(const Context& ctx, Model& model, const OptimConfig& optim,
                 const GuardConfig& guard)
    : model_(model), optimizer_(ctx, model.parameters(), optim), guard_(guard) {
  model.parameters().allocate_grads(ctx);
}

double Trainer::norm_limit() const {
  if (guard_.factor <= 0 || norms_.size() < kNormsBeforeGuard)
    return std::numeric_limits<double>::infinity();
  std::vector<double> sorted = norms_;
  const auto middle = sorted.begin() + std::ssize(sorted) / 2;
  std::nth_element(sorted.begin(), middle, sorted.end());
  return guard_.factor * *middle;
}

StepResult Trainer::step(const Context& ctx, std::span<const TrainBatch> micro_batches,
                         double lr_scale) {
  StepResult result;
  result.targets = count_targets(micro_batches);
  model_.parameters().zero_grads(ctx);
  double nll = 0;
  for (const TrainBatch& b : micro_batches) {
    Tape tape;
    Context recorded = ctx;
    recorded.tape = &tape;
    recorded.loss_share = static_cast<double>(count_targets({&b, 1})) /
                          static_cast<double>(std::max<int64_t>(1, result.targets));
    LossConfig config;
    config.divisor = result.targets;
    const LossResult loss = model_.loss(recorded, b.inputs, b.targets, layout(b), config);
    nll += loss.nll_sum;
    result.target_bytes += b.target_bytes;
    tape.backward(recorded, loss.loss);
    for (const auto& [name, value] : tape.losses()) result.auxiliary[name] += value;
  }
  result.loss = nll / static_cast<double>(std::max<int64_t>(1, result.targets));
  const double limit = std::isfinite(result.loss) ? norm_limit() : -1.0;
  Context uncounted = ctx;  // counters hold the model's products, not Muon's
  uncounted.counters = nullptr;
  const OptimStep done = optimizer_.step(uncounted, lr_scale, limit);
  result.grad_norm = done.grad_norm;
  result.applied = done.applied;
  // Also after a step that was left out: its statistics must not leak into the next one.
  model_.after_step(ctx);
  left_out_ = done.applied ? 0 : left_out_ + 1;
  if (left_out_ >= kMostLeftOut) {
    throw DivergedError(
        ErrorKind::kBadInput,
        format("training has diverged: {} steps in a row left out, the last with loss {:.4g} "
               "and gradient norm {:.4g} (limit {:.4g}); resume from an earlier checkpoint "
               "with a lower --lr, or raise --guard",
               left_out_, result.loss, done.grad_norm, limit));
  }
  if (!done.applied) return result;
  norms_.push_back(done.grad_norm);
  if (std::ssize(norms_) > guard_.window) norms_.erase(norms_.begin());
  return result;
}

double Evaluation::bits_per_byte() const {
  if (bytes == 0) return std::numeric_limits<double>::quiet_NaN();  // null in JSON
  return nats / (std::log(2.0) * static_cast<double>(bytes));
}

void Evaluation::add(const Evaluation& o) {
  nats += o.nats;
  targets += o.targets;
  bytes += o.bytes;
}

double Evaluation::nats_per_token() const {
  if (targets == 0) return std::numeric_limits<double>::quiet_NaN();
  return nats / static_cast<double>(targets);
}

Evaluation evaluate(const Context& ctx, Model& model, std::span<const TrainBatch> windows) {
  Evaluation e;
  for (const TrainBatch& w : windows) {
    const LossResult loss = model.loss(ctx, w.inputs, w.targets, layout(w));
    e.nats += loss.nll_sum;
    e.targets += loss.targets;
    e.bytes += w.target_bytes;
  }
  return e;
}

}  // namespace braid
