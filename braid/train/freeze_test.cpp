// Training a part of a model: what is frozen keeps its bits, and what is trained does not notice.

#include <doctest/doctest.h>

#include <cstring>
#include <map>

#include "braid/base/error.h"
#include "braid/layers/channel.h"
#include "braid/layers/mixer.h"
#include "braid/stack/model.h"
#include "braid/train/trainer.h"

namespace braid {
namespace {

ModelSettings settings_of(const std::string& stack, const char* residual) {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = 64;
  s.head_dim = 16;
  s.vocab = 64;
  s.residual = parse_named(residual, "residual");
  s.init = parse_named("normal{std=0.3}", "init");
  return s;
}

TrainBatch batch_of(int64_t tokens) {
  TrainBatch b;
  for (int64_t i = 0; i < tokens; ++i) {
    b.inputs.push_back(static_cast<int32_t>(i * i * 7 % 61));
    b.targets.push_back(static_cast<int32_t>((i + 1) * (i + 1) * 7 % 61));
  }
  b.seq_starts = {0, tokens / 3, tokens};
  return b;
}

using Gradients = std::map<std::string, std::vector<float>>;

// Of the loss, by the parameters that `trains` takes.
template <typename F>
Gradients gradients(const ModelSettings& settings, F trains) {
  const Context ctx;
  Model model(ctx, settings);
  size_t at = 0;
  for (Parameter& p : model.parameters()) p.frozen = !trains(at++);
  model.parameters().allocate_grads(ctx);
  const TrainBatch b = batch_of(90);
  Batch batch;
  batch.seq_starts = b.seq_starts;
  batch.offsets = {0, 0};
  Tape tape;
  Context recorded = ctx;
  recorded.tape = &tape;
  const LossResult loss = model.loss(recorded, b.inputs, b.targets, batch);
  tape.backward(recorded, loss.loss);
  Gradients all;
  for (const Parameter& p : model.parameters()) {
    if (!p.grad.defined()) continue;
    all[p.name].assign(p.grad.data(), p.grad.data() + p.grad.count());
  }
  return all;
}

std::string every_layer() {
  std::string stack = "mamba{as=memory}, gqa{as=kv}, gqa{of=kv,sinks=true,bias=qkvo} | kda";
  for (const LayerType& t : mixer_types()) {
    const std::string name = t.name;
    stack += ", " + (name == "gmu" ? "gmu{of=memory}" : name);
  }
  for (const LayerType& t : channel_types()) stack += std::string(", ") + t.name;
  return stack +
         ", dsa{index_topk=9,index_n_heads=2,index_head_dim=32,index_loss=0.5}, "
         "fox{shift=true,gate=true,qk_norm=true,out_norm=true}, moe{experts=4,top_k=2}";
}

}  // namespace

TEST_CASE("gradients do not depend on which other parameters are frozen, in any layer") {
  for (const char* residual : {"prenorm", "attnres", "normed"}) {
    const ModelSettings settings = settings_of(every_layer(), residual);
    const Gradients whole = gradients(settings, [](size_t) { return true; });
    size_t seen = 0;
    for (size_t part = 0; part < 3; ++part) {
      const Gradients some = gradients(settings, [part](size_t i) { return i % 3 == part; });
      seen += some.size();
      for (const auto& [name, values] : some) {
        CAPTURE(name);
        CHECK(values == whole.at(name));
      }
    }
    CHECK(seen == whole.size());
  }
}

TEST_CASE("the indexer's warm-up changes nothing but the indexer") {
  const Context ctx;
  Model model(ctx, settings_of("dsa{stage=warmup,index_loss=1,index_n_heads=2,index_head_dim=32}, "
                               "moe{experts=4,top_k=2}, dsa{index_topk=8,index_loss=1,"
                               "index_n_heads=2,index_head_dim=32}, swiglu",
                               "prenorm"));
  OptimConfig optim;
  optim.lr = 1e-2;
  optim.trained.only = {"*.indexer.*"};
  Trainer trainer(ctx, model, optim);
  Gradients before;
  for (const Parameter& p : model.parameters())
    before[p.name].assign(p.value.data(), p.value.data() + p.value.count());
  const std::vector<TrainBatch> step = {batch_of(90)};
  double loss = 0, first_norm = 0, last_norm = 0;
  for (int i = 0; i < 60; ++i) {
    const StepResult r = trainer.step(ctx, step, 1.0);
    CHECK(r.applied);
    if (i == 0) loss = r.loss, first_norm = r.grad_norm;
    last_norm = r.grad_norm;
    CHECK(r.loss == doctest::Approx(loss).epsilon(0.05));  // the second layer chooses by it
  }
  CHECK(last_norm < first_norm / 2);
  size_t moved = 0;
  for (const Parameter& p : model.parameters()) {
    CAPTURE(p.name);
    const bool same = std::memcmp(p.value.data(), before[p.name].data(), p.value.bytes()) == 0;
    const bool indexer = p.name.find(".indexer.") != std::string::npos;
    CHECK(same == !indexer);
    CHECK(p.grad.defined() == indexer);
    moved += same ? 0 : 1;
  }
  CHECK(moved == 10);
  CHECK(trainer.optimizer().state_bytes() < model.parameters().bytes());
}

TEST_CASE("patterns that freeze nothing or everything are refused") {
  const Context ctx;
  Model model(ctx, settings_of("gqa, swiglu", "prenorm"));
  const auto error = [&](const TrainedNames& names) -> std::string {
    try {
      freeze_parameters(model.parameters(), names);
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::kUsage);
      return e.what();
    }
    return "";
  };
  CHECK(error({{"*.indexer.*"}, {}}).find("no parameter's name fits \"*.indexer.*\"") == 0);
  CHECK(error({{}, {"*.gqa.*", "*.kda.*"}}).find("no parameter's name fits \"*.kda.*\"") == 0);
  CHECK(error({{}, {"layers.#.gqa.k_poj.*"}}).find("near are layers.0.gqa.k_proj.weight") !=
        std::string::npos);
  CHECK(error({{}, {"*"}}).find("every parameter is frozen") == 0);
  CHECK(error({{"*.gqa.*"}, {"*.q_proj.*"}}) == "");
  for (const Parameter& p : model.parameters()) {
    CAPTURE(p.name);
    CHECK(p.frozen == (p.name.find(".gqa.") == std::string::npos ||
                       p.name.find(".q_proj.") != std::string::npos));
  }
}

}  // namespace braid
