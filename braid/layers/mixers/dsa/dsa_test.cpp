#include <doctest/doctest.h>

#include <cstring>

#include "braid/layers/mixer.h"
#include "braid/layers/mixers/dsa/dsa_ref.h"
#include "braid/ops/tape.h"
#include "braid/testing/golden_mixer.h"
#include "braid/testing/mixer_battery.h"
#include "braid/testing/numeric.h"
#include "braid/testing/stack_battery.h"

namespace braid {

using testing::golden_options;
using testing::random_tensor;

TEST_CASE("dsa") {
  for (const char* options :
       {"index_n_heads=3,index_head_dim=6,index_topk=8",
        "q_lora_rank=10,index_n_heads=2,index_head_dim=8,index_topk=20,index_interleaved=true",
        "rope=false,index_n_heads=4,index_head_dim=5,index_topk=33",
        "index_n_heads=2,index_head_dim=4,index_topk=8,stage=warmup"}) {
    for (const std::string& failure :
         testing::check_mixer("dsa", {.options = options,
                                     .f32_matrices = "indexer.weights_proj.weight ",
                                     .constant_state = false})) {
      FAIL_CHECK(failure);
    }
  }
}

namespace {

struct Made {
  ParameterSet params;
  std::unique_ptr<Layer> layer;
  Made(const Context& ctx, const char* name, const Options& options) {
    LayerEnv env;
    env.width = 24;
    env.heads = 3;
    env.head_dim = 8;
    env.init_std = env.out_init_std = 0.3;
    ParamBuilder builder(ctx, params, 7);
    layer = find_mixer(name)->make(options, env, builder);
    for (Parameter& p : params) {
      const Tensor noise = random_tensor(ctx, p.value.shape(), p.name.c_str(), 0.1);
      for (int64_t i = 0; i < p.value.count(); ++i) p.value.data()[i] += noise.data()[i];
    }
  }
};

ReferenceParams reference_params(const ParameterSet& set) {
  ReferenceParams params;
  for (const Parameter& p : set) params.values[p.name] = testing::values(p.value);
  return params;
}

// A small layer whose indexer learns, and its loss by the definition.
Options learning(const char* stage) {
  return golden_options({{"index_n_heads", "2"},
                         {"index_head_dim", "6"},
                         {"index_topk", "9"},
                         {"q_lora_rank", "7"},
                         {"stage", stage},
                         {"index_loss", "0.5"}});
}

double index_loss(const ReferenceParams& params, const char* stage, const Tensor& x) {
  DsaShape shape;
  shape.latent = {24, 3, 7, 32, 8, 4, 8};
  shape.latent.scale = 1 / std::sqrt(12.0);
  shape.index_heads = 2;
  shape.index_dim = 6;
  shape.top = 9;
  shape.warmup = std::strcmp(stage, "warmup") == 0;
  const auto given = [&](const char* name) { return params[name].data(); };
  const MlaWeights w{nullptr,
                     given("q_a_proj.weight"),
                     given("q_a_layernorm.weight"),
                     given("q_b_proj.weight"),
                     given("kv_a_proj_with_mqa.weight"),
                     given("kv_a_layernorm.weight"),
                     given("kv_b_proj.weight"),
                     given("o_proj.weight"),
                     nullptr,
                     nullptr,
                     nullptr};
  return DsaRef(shape, w, params).index_loss(testing::values(x), x.size(0));
}

// Gradients of the index loss alone; returns that of x.
// `told` gets the loss as the tape knows it.
Tensor index_gradients(const Context& ctx, Made& made, Tensor x, double* told = nullptr) {
  made.params.allocate_grads(ctx);
  made.params.zero_grads(ctx);
  Tape tape;
  Context train = ctx;
  train.tape = &tape;
  tape.watch(x);
  const Tensor y = made.layer->forward(train, x, Batch::uniform(1, x.size(0)), {});
  tape.backward(ctx, y, Tensor::zeros(ctx, y.shape()));
  if (told != nullptr) *told = tape.losses().at("index");
  return tape.grad(x);
}

}  // namespace

TEST_CASE("dsa is mla, bit for bit, up to index_topk tokens") {
  Context ctx;
  Made sparse(
      ctx, "dsa",
      golden_options({{"index_n_heads", "2"}, {"index_head_dim", "4"}, {"index_topk", "64"}}));
  Made dense(ctx, "mla", {});
  const Tensor x = random_tensor(ctx, {64, 24}, "x");
  const auto run = [&](Layer& layer, bool with_state) {
    auto state = layer.make_state(ctx);
    LayerState* states[] = {state.get()};
    return layer.forward(ctx, x, Batch::uniform(1, 64), with_state ? States(states) : States());
  };
  for (const bool with_state : {false, true}) {
    const Tensor a = run(*sparse.layer, with_state), b = run(*dense.layer, with_state);
    CHECK(std::memcmp(a.data(), b.data(), a.bytes()) == 0);
  }
}

TEST_CASE(
    "dsa: the indexer's gradients are those of its loss, and the model's stay what they were") {
  constexpr double kStep = 1e-5;
  const int64_t tokens = 30;
  for (const char* stage : {"warmup", "sparse"}) {
    Context ctx;
    Made made(ctx, "dsa", learning(stage));
    const Tensor x = random_tensor(ctx, {tokens, 24}, "x");
    double told = 0;
    CHECK(testing::worst_error(index_gradients(ctx, made, x, &told),
                               std::vector<double>(tokens * 24)) == 0);

    ReferenceParams params = reference_params(made.params);
    const auto loss = [&] { return 0.5 * index_loss(params, stage, x); };
    CHECK(told == doctest::Approx(loss()).epsilon(1e-5));
    for (const Parameter& p : made.params) {
      INFO(stage, ": ", p.name);
      if (p.name.find("indexer.") == std::string::npos) {
        CHECK(testing::worst_error(p.grad, std::vector<double>(p.grad.count())) == 0);
        continue;
      }
      std::vector<double>& at = params.values[p.name];
      const Rng rng(3, p.name);
      double along = 0, norm = 0, slope[2];
      for (int side = 0; side < 2; ++side) {
        const std::vector<double> kept = at;
        for (size_t i = 0; i < at.size(); ++i)
          at[i] += (side == 0 ? kStep : -kStep) * (rng.uniform(i) < 0.5 ? -1 : 1);
        slope[side] = loss();
        at = kept;
      }
      for (size_t i = 0; i < at.size(); ++i) {
        along += (rng.uniform(i) < 0.5 ? -1 : 1) * p.grad.data()[i];
        norm += static_cast<double>(p.grad.data()[i]) * p.grad.data()[i];
      }
      const double want = (slope[0] - slope[1]) / (2 * kStep);
      CHECK(std::abs(along - want) <= 1e-4 * std::max(std::sqrt(norm), std::abs(want)));
    }
  }
}

TEST_CASE("dsa: in the warm-up the indexer's distance from attention falls by its own gradients") {
  constexpr float kRate = 3;
  Context ctx;
  Made made(ctx, "dsa", learning("warmup"));
  const Tensor x = random_tensor(ctx, {40, 24}, "x");
  const double before = index_loss(reference_params(made.params), "warmup", x);
  for (int step = 0; step < 100; ++step) {
    index_gradients(ctx, made, x);
    for (Parameter& p : made.params) {
      for (int64_t i = 0; i < p.value.count(); ++i) p.value.data()[i] -= kRate * p.grad.data()[i];
    }
  }
  const double after = index_loss(reference_params(made.params), "warmup", x);
  CAPTURE(before);
  CAPTURE(after);
  CHECK(after < 0.5 * before);
}

// No second choice among few keys stands behind another layer: the probe of a gradient in double
// precision would jump where it changes.
TEST_CASE("dsa: a layer attends to what another one chose") {
  for (const char* stack :
       {"dsa{index_n_heads=3,index_head_dim=6,index_topk=8,as=keys}, swiglu, dsa{of=keys}, "
        "dsa{of=keys}, swiglu",
        "dsa{index_n_heads=3,index_head_dim=6,index_topk=8,as=keys}, dsa{of=keys}, "
        "dsa{index_n_heads=2,index_head_dim=6,index_topk=1000,as=keys}, dsa{of=keys}, swiglu",
        "dsa{index_n_heads=3,index_head_dim=6,stage=warmup,as=keys}, dsa{of=keys}, swiglu"}) {
    for (const std::string& failure : testing::check_stack(stack)) FAIL_CHECK(failure);
  }
}

TEST_CASE("dsa: what cannot be shared is refused") {
  Context ctx;
  ParameterSet params;
  ParamBuilder builder(ctx, params, 7);
  LinkTable links;
  links.declare("keys", {"selection", {8, 0}});
  links.declare("other", {"kv", {1}});
  LayerEnv env;
  env.width = 24;
  env.heads = 3;
  env.head_dim = 8;
  env.links = &links;
  const auto make = [&](const Options& options) {
    return find_mixer("dsa")->make(options, env, builder);
  };
  CHECK_THROWS_WITH_AS(make(golden_options({{"of", "keys"}, {"index_topk", "4"}})),
                       doctest::Contains("has no indexer"), Error);
  CHECK_THROWS_WITH_AS(make(golden_options({{"of", "keys"}, {"as", "b"}})),
                       doctest::Contains("chooses nothing"), Error);
  CHECK_THROWS_AS(make(golden_options({{"of", "other"}})), Error);
}

}  // namespace braid
