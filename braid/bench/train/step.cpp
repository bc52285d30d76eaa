// One whole training step: forward, backward, optimizer.

#include <vector>

#include "braid/base/format.h"
#include "braid/base/rng.h"
#include "braid/bench/harness.h"
#include "braid/bench/model.h"
#include "braid/ops/tape.h"
#include "braid/stack/model.h"
#include "braid/train/optim.h"

namespace braid {
namespace {

constexpr const char* kStack = "2 x (3 x (kda, swiglu), gqa, swiglu)";
constexpr int64_t kWidth = 512, kTokens = 1024, kBatch = 4;

void bench_step(Bench& bench, const char* name, bool recompute) {
  if (!bench.wants(name)) return;
  const Context& ctx = bench.context();
  Model model(ctx, bench_settings(kStack, "attnres", kWidth));
  model.set_recompute(recompute);
  model.parameters().allocate_grads(ctx);
  OptimConfig config;
  config.lr = 1e-5;  // the text is noise: hardly anything is to be learnt from it
  Optimizer optimizer(ctx, model.parameters(), config);
  const Batch batch = Batch::uniform(kBatch, kTokens);
  const Rng rng(3, "tokens");
  std::vector<int32_t> ids, targets;
  for (int64_t i = 0; i < batch.tokens(); ++i) {
    ids.push_back(static_cast<int32_t>(rng.below(2 * i, 256)));
    targets.push_back(static_cast<int32_t>(rng.below(2 * i + 1, 256)));
  }
  const auto gradients = [&](Context training) {
    Tape tape;
    training.tape = &tape;
    model.parameters().zero_grads(training);
    const LossResult loss = model.loss(training, ids, targets, batch);
    Context backward = training;
    backward.tape = nullptr;
    tape.backward(backward, loss.loss);
  };
  const auto step = [&] {
    gradients(ctx);
    optimizer.step(ctx, 1.0);
    model.after_step(ctx);
  };
  // The model's own products: neither recomputed ones nor the optimizer's count as work.
  model.set_recompute(false);
  const double flops = bench.product_flops([&] { gradients(ctx); });
  model.set_recompute(recompute);
  bench.measure(
      {.name = name,
       .shape = format("T={} batch={} width={} {} + attnres", kTokens, kBatch, kWidth, kStack),
       .work = flops,
       .limit = Limit::kPeak,
       .run = step});
}

}  // namespace

void bench_train_step(Bench& bench) {
  bench_step(bench, "train/step", false);
  bench_step(bench, "train/step/recompute", true);
}

}  // namespace braid
