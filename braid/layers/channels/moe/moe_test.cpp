#include "braid/layers/channels/moe/moe.h"

#include <doctest/doctest.h>

#include <cstring>

#include "braid/base/format.h"
#include "braid/kernels/moe/moe.h"
#include "braid/layers/channel.h"
#include "braid/layers/channels/act.h"
#include "braid/layers/channels/moe/moe_ref.h"
#include "braid/ops/checkpoint.h"
#include "braid/ops/tape.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::Complex;
using testing::worst_error;

Options options_of(std::initializer_list<std::pair<const char*, const char*>> items) {
  Options o;
  for (const auto& [key, value] : items) o.set(key, value);
  return o;
}

struct Fixture {
  Context ctx;
  ParameterSet set;
  std::unique_ptr<Layer> layer;

  Fixture(const Options& options, int64_t width, int threads = 0) {
    ctx.threads = threads;
    LayerEnv env;
    env.width = width;
    env.init_std = env.out_init_std = 0.5;
    ParamBuilder params(ctx, set, 3);
    layer = find_channel("moe")->make(options, env, params);
    set.allocate_grads(ctx);
    for (const char* name :
         {"gate.e_score_correction_bias", "gate.bias", "experts.gate_up_proj_bias",
          "experts.up_proj_bias", "experts.down_proj_bias"}) {
      Parameter* bias = set.find(name);
      if (bias == nullptr) continue;
      bias->value = testing::random_tensor(ctx, bias->value.shape(), name, 0.2);
    }
  }
  const MoeLayer& moe() const { return dynamic_cast<const MoeLayer&>(*layer); }
};

// x, then every trained parameter, laid end to end as complex numbers; `run` is the reference over
// them.
struct Reference {
  MoeRef<Complex> m;
  int64_t tokens;
  std::vector<Complex> bias;
  double aux_coef;
  std::vector<int64_t> loads;
  bool router_bias, expert_bias;

  Complex loss(std::span<const Complex> in, const Tensor& up) {
    const Complex* at = in.data() + tokens * m.width;
    const auto take = [&](int64_t n) {
      const Complex* p = at;
      at += n;
      return p;
    };
    m.gate = take(m.experts * m.width);
    if (router_bias) m.router_bias = take(m.experts);
    m.bias = bias.empty() ? nullptr : bias.data();
    const int64_t rows = (m.gated ? 2 : 1) * m.ffn;
    m.gate_up = take(m.experts * rows * m.width);
    m.down = take(m.experts * m.width * m.ffn);
    if (expert_bias) {
      m.gate_up_bias = take(m.experts * rows);
      m.down_bias = take(m.experts * m.width);
    }
    m.shared_gate_proj = m.gated ? take(m.shared * m.width) : nullptr;
    m.shared_up_proj = take(m.shared * m.width);
    m.shared_down_proj = take(m.shared * m.width);
    m.shared_gate = at < in.data() + in.size() ? at : nullptr;
    Complex sum = 0;
    for (int64_t t = 0; t < tokens; ++t) {
      const Complex* x = in.data() + t * m.width;
      const std::vector<Complex> y = moe_ref(m, x);
      for (int64_t d = 0; d < m.width; ++d) {
        sum += y[d] * static_cast<double>(up.data()[t * m.width + d]);
      }
      if (aux_coef == 0) continue;
      const std::vector<Complex> s = moe_scores_ref(m, x);
      Complex total = 0;
      for (const Complex& v : s) total += v;
      for (int64_t e = 0; e < m.experts; ++e) {
        sum += aux_coef * static_cast<double>(m.experts * loads[e]) /
               static_cast<double>(tokens * tokens) * s[e] / total;
      }
    }
    return sum;
  }
};

void check_gradients(const Options& options, bool sigmoid, double aux_coef) {
  INFO(options.str());
  const int64_t width = 7, tokens = 6;
  Fixture f(options, width);
  CHECK(f.layer->options().str() == options.str());
  const auto config = read_options<MoeConfig>("moe", options);
  Tensor x = testing::random_tensor(f.ctx, {tokens, width}, "x");
  const Tensor up = testing::random_tensor(f.ctx, {tokens, width}, "up");
  Tape tape;
  Context train = f.ctx;
  train.tape = &tape;
  tape.watch(x);
  const Tensor y = f.layer->forward(train, x, Batch::uniform(1, tokens), {});
  ReferenceParams params;
  for (const Parameter& p : f.set) params.values[p.name] = testing::values(p.value);
  CHECK(worst_error(y, f.layer->reference(params, testing::values(x), tokens)) <= 4e-6);
  tape.backward(f.ctx, y, up);

  std::vector<double> all = testing::values(x);
  Reference ref{{width, config.ffn, config.experts, config.top_k, sigmoid, config.renormalise,
                 config.scale, config.groups, config.topk_groups, config.shared, nullptr, nullptr,
                 nullptr, nullptr, nullptr, nullptr, nullptr, nullptr},
                tokens,
                {},
                aux_coef,
                f.moe().loads(),
                config.router_bias,
                config.expert_bias};
  ref.m.act = {moe_act(config), static_cast<float>(config.limit), static_cast<float>(config.alpha)};
  ref.m.gated = config.gated;
  for (const Parameter& p : f.set) {
    const auto v = testing::values(p.value);
    if (p.role == ParamRole::kBuffer) {
      ref.bias.assign(v.begin(), v.end());
    } else {
      all.insert(all.end(), v.begin(), v.end());
    }
  }
  const auto gradient =
      testing::complex_step(all, [&](std::span<const Complex> in) { return ref.loss(in, up); });
  size_t at = 0;
  const auto check = [&](const std::string& name, const Tensor& got) {
    INFO(name);
    CHECK(worst_error(got, std::span(gradient).subspan(at, static_cast<size_t>(got.count()))) <=
          1e-5);
    at += static_cast<size_t>(got.count());
  };
  check("x", tape.grad(x));
  for (const Parameter& p : f.set) {
    if (p.role != ParamRole::kBuffer) check(p.name, p.grad);
  }
  CHECK(at == all.size());
}

Tensor run(Fixture& f, const Tensor& x) {
  return f.layer->forward(f.ctx, x, Batch::uniform(1, x.size(0)), {});
}

}  // namespace

TEST_CASE("moe equals its definition, values and gradients") {
  check_gradients(options_of({{"experts", "4"}, {"ffn", "5"}, {"balance", "none"}}), false, 0);
  check_gradients(options_of({{"experts", "5"},
                              {"top_k", "3"},
                              {"ffn", "5"},
                              {"renormalise", "false"},
                              {"scale", "1.5"},
                              {"shared", "3"},
                              {"shared_gate", "true"}}),
                  false, 0);
  check_gradients(options_of({{"experts", "6"},
                              {"ffn", "5"},
                              {"router", "sigmoid"},
                              {"scale", "2.5"},
                              {"shared", "4"},
                              {"groups", "3"},
                              {"topk_groups", "2"}}),
                  true, 0);
  check_gradients(options_of({{"experts", "4"},
                              {"ffn", "3"},
                              {"router", "sigmoid"},
                              {"renormalise", "false"},
                              {"balance", "aux"},
                              {"aux_coef", "0.5"}}),
                  true, 0.5);
  check_gradients(options_of({{"experts", "4"},
                              {"top_k", "1"},
                              {"ffn", "3"},
                              {"balance", "aux"},
                              {"aux_coef", "0.5"}}),
                  false, 0.5);
  check_gradients(options_of({{"experts", "4"},
                              {"ffn", "5"},
                              {"balance", "none"},
                              {"router_bias", "true"},
                              {"expert_bias", "true"},
                              {"act", "clamped"},
                              {"limit", "0.7"},
                              {"alpha", "1.3"}}),
                  false, 0);
  check_gradients(options_of({{"experts", "4"},
                              {"ffn", "5"},
                              {"router", "sigmoid"},
                              {"shared", "4"},
                              {"expert_bias", "true"},
                              {"act", "gelu_tanh"}}),
                  true, 0);
  check_gradients(options_of({{"experts", "6"},
                              {"ffn", "5"},
                              {"router", "sigmoid"},
                              {"scale", "2.5"},
                              {"shared", "4"},
                              {"act", "relu2"},
                              {"gated", "false"}}),
                  true, 0);
  check_gradients(options_of({{"experts", "4"},
                              {"ffn", "5"},
                              {"shared", "3"},
                              {"shared_gate", "true"},
                              {"balance", "none"},
                              {"expert_bias", "true"},
                              {"gated", "false"}}),
                  false, 0);
}

TEST_CASE("moe over many tokens: experts with none, few and several tiles of rows") {
  Fixture f(options_of({{"experts", "6"}, {"ffn", "32"}}), 16);
  // Selection by bias alone: one expert gets every token, one none, the rest what the scores say.
  float* bias = f.set.find("gate.e_score_correction_bias")->value.data();
  bias[2] = 5;
  bias[4] = -5;
  const int64_t tokens = 700;
  const Tensor x = testing::random_tensor(f.ctx, {tokens, 16}, "x");
  ReferenceParams params;
  for (const Parameter& p : f.set) params.values[p.name] = testing::values(p.value);
  const Tensor y = run(f, x);
  CHECK(worst_error(y, f.layer->reference(params, testing::values(x), tokens)) <= 4e-6);
  // Every token by itself takes the decode path; it differs from the batch by rounding only.
  for (int64_t t = 0; t < 20; ++t) {
    const Tensor one = run(f, x.narrow(0, t, 1));
    CHECK(worst_error(one, testing::values(y.select(0, t))) <= 4e-6);
  }
  CHECK(f.layer->idle_parameters() == 4 * 3 * 16 * 32);
}

TEST_CASE("selection: ties to the lowest index, groups by their two best, NaN stays in range") {
  int32_t chosen[4];
  const float ties[] = {1, 3, 3, 2, 3, 1};
  select_experts({6, 4, 1, 1}, ties, chosen);
  CHECK(std::vector<int32_t>(chosen, chosen + 4) == std::vector<int32_t>{1, 2, 4, 3});
  // Sums of the two best: 5, 6, 4; the largest single score is in the group that loses.
  const float grouped[] = {3, 2, 0, 3, 3, 0, 4, 0, 0};
  select_experts({9, 3, 3, 2}, grouped, chosen);
  CHECK(std::vector<int32_t>(chosen, chosen + 3) == std::vector<int32_t>{0, 3, 4});
  const float bad[] = {NAN, NAN, 1, NAN};
  select_experts({4, 2, 1, 1}, bad, chosen);
  for (int i = 0; i < 2; ++i) CHECK((chosen[i] >= 0 && chosen[i] < 4));
  CHECK(chosen[0] != chosen[1]);
}

TEST_CASE("bias balance: loads are counted once, in recorded forwards, and move the bias") {
  Fixture f(options_of({{"experts", "4"}, {"ffn", "4"}, {"bias_rate", "0.01"}}), 8);
  Tensor bias = f.set.find("gate.e_score_correction_bias")->value;
  std::fill_n(bias.data(), 4, 0.0f);
  bias.data()[0] = 9;  // chosen by every token
  bias.data()[3] = -9;
  Tensor x = testing::random_tensor(f.ctx, {10, 8}, "x");
  run(f, x);
  CHECK(f.moe().loads() == std::vector<int64_t>(4, 0));  // evaluation does not count
  const Batch batch = Batch::uniform(1, 10);
  for (const bool recompute : {false, true}) {
    Tape tape;
    Context train = f.ctx;
    train.tape = &tape;
    Tensor in = x;
    tape.watch(in);
    const auto body = [&](const Context& c, const Tensor& v) {
      return f.layer->forward(c, v, batch, {});
    };
    const Tensor y = recompute ? checkpoint(train, in, body) : body(train, in);
    tape.backward(f.ctx, y);
  }
  CHECK(f.moe().loads()[0] == 20);
  CHECK(f.moe().loads()[3] == 0);
  CHECK(f.moe().loads()[1] + f.moe().loads()[2] == 20);
  const float middle = bias.data()[1];
  f.layer->after_step(f.ctx);
  CHECK(bias.data()[0] == doctest::Approx(8.99));
  CHECK(bias.data()[3] == doctest::Approx(-8.99));
  CHECK(std::abs(bias.data()[1] - middle) <= 0.01001f);
  CHECK(f.moe().loads() == std::vector<int64_t>(4, 0));
}

TEST_CASE("the auxiliary loss of uniform routing is coef times top_k") {
  Context ctx;
  RouterConfig config;
  config.top_k = 2;
  config.aux_coef = 0.25;
  // Tokens that prefer neighbouring pairs in turn load all experts equally.
  const Tensor logits = Tensor::zeros(ctx, {4, 4});
  for (int t = 0; t < 4; ++t) {
    logits.data()[t * 4 + t] = logits.data()[t * 4 + (t + 1) % 4] = 1;
  }
  const Routing r = route(ctx, logits, nullptr, config);
  CHECK(r.loads == std::vector<int64_t>(4, 2));
  CHECK(r.aux_loss == doctest::Approx(0.5).epsilon(1e-6));
}

TEST_CASE("moe gives the same bits for any number of threads, gradients included") {
  std::vector<Tensor> first;
  for (const int threads : {1, 2, 3}) {
    Fixture f(options_of({{"experts", "5"},
                          {"ffn", "24"},
                          {"shared", "8"},
                          {"shared_gate", "true"},
                          {"balance", "aux"}}),
              16, threads);
    Tape tape;
    Context train = f.ctx;
    train.tape = &tape;
    Tensor x = testing::random_tensor(f.ctx, {600, 16}, "x");
    tape.watch(x);
    const Tensor y = f.layer->forward(train, x, Batch::uniform(1, 600), {});
    tape.backward(f.ctx, y);
    std::vector<Tensor> all = {y, tape.grad(x)};
    for (const Parameter& p : f.set) all.push_back(p.grad);
    if (first.empty()) first = all;
    for (size_t i = 0; i < all.size(); ++i) {
      CHECK(std::memcmp(all[i].data(), first[i].data(), all[i].bytes()) == 0);
    }
  }
}

TEST_CASE("a dry moe takes the memory and counts the products of a real one") {
  size_t peak[2];
  double flops[2];
  for (const bool dry : {false, true}) {
    Fixture f(options_of({{"experts", "4"}, {"ffn", "32"}, {"shared", "32"}}), 32);
    Counters counters;
    Context ctx = f.ctx;
    if (dry) ctx.arena = Arena::create(Arena::Mode::kDry);
    ctx.counters = &counters;
    Tape tape;
    Context train = ctx;
    train.tape = &tape;
    Tensor x = dry ? Tensor::empty(ctx, {100, 32}) : testing::random_tensor(ctx, {100, 32}, "x");
    tape.watch(x);
    ctx.arena->reset_peak();
    const size_t before = ctx.arena->stats().in_use;
    const Tensor y = f.layer->forward(train, x, Batch::uniform(1, 100), {});
    tape.backward(ctx, y);
    peak[dry] = ctx.arena->stats().peak - before;
    flops[dry] = counters.product_flops;
  }
  CHECK(peak[0] == peak[1]);
  CHECK(flops[0] == flops[1]);
  // Router, two routed experts and the shared one: forward and twice that backward.
  CHECK(flops[0] == 3.0 * 2 * 100 * (4 * 32 + 3 * 3 * 32 * 32));
}

TEST_CASE("moe's errors name the option, both values and what would be right") {
  const auto fails = [](std::initializer_list<std::pair<const char*, const char*>> items,
                        const char* message) {
    CHECK_THROWS_WITH_AS(Fixture(options_of(items), 8), message, Error);
  };
  fails({{"experts", "0"}}, "moe: experts=0 must be 1 to 65536");
  fails({{"experts", "65537"}}, "moe: experts=65537 must be 1 to 65536");
  fails({{"top_k", "9"}}, "moe: top_k=9 must be between 1 and experts=8");
  fails({{"router", "hash"}}, "moe: router=hash is neither softmax nor sigmoid");
  fails({{"balance", "loss"}}, "moe: balance=loss is none of none, bias, aux");
  fails({{"shared_gate", "true"}}, "moe: shared_gate=true needs a shared expert, shared=0");
  fails({{"groups", "3"}}, "moe: groups=3 must divide experts=8");
  fails({{"act", "relu"}}, "moe: act=relu is none of silu, gelu_tanh, clamped");
  fails({{"act", "relu2"}}, "moe: act=relu2 is none of silu, gelu_tanh, clamped");
  fails({{"act", "clamped"}, {"gated", "false"}},
        "moe with gated=false: act=clamped is none of silu, gelu_tanh, relu2");
  fails({{"limit", "5"}}, "moe: limit and alpha belong to act=clamped, not act=silu");
  fails({{"act", "clamped"}, {"limit", "0"}}, "moe: limit=0 must be positive");
  fails({{"groups", "8"}, {"top_k", "2"}},
        "moe: top_k=2 experts do not fit in topk_groups=1 groups of 1");
}

}  // namespace braid
