// The unified recurrence at the shape of a large model's layer: chunked forward and backward, and
// the decode step.

#include "braid/ops/recurrence.h"

#include <cmath>
#include <vector>

#include "braid/base/format.h"
#include "braid/bench/fill.h"
#include "braid/bench/harness.h"

namespace braid {
namespace {

constexpr int64_t kTokens = 1024, kHeads = 32, kKey = 128, kValue = 128;
// States stepped in turn, 192 MiB of them: a model's other layers would have driven a state out of
// the caches by the time its next token comes.
constexpr int64_t kStates = 96;

struct Mixer {
  const char* name;
  RecurrenceConfig::Decay decay;
  RecurrenceConfig::Erase erase;
  int64_t micro_steps;
};

using Decay = RecurrenceConfig::Decay;
using Erase = RecurrenceConfig::Erase;
constexpr Mixer kMixers[] = {
    {"gdn", Decay::kScalar, Erase::kBeta, 1},
    {"kda", Decay::kVector, Erase::kBeta, 1},
    {"lightning", Decay::kPerHead, Erase::kNone, 1},
    {"gla", Decay::kVector, Erase::kNone, 1},
    {"deltanet", Decay::kNone, Erase::kBeta, 1},
    {"gdn2", Decay::kVector, Erase::kVector, 1},
    {"comba", Decay::kScalar, Erase::kKey, 1},
    {"deltaproduct", Decay::kScalar, Erase::kBeta, 2},
};

// Keys of length one, as every delta rule has them.
Tensor unit_keys(const Context& ctx, int64_t tokens, const char* use) {
  return normal_tensor(ctx, {tokens, kHeads, kKey}, 1 / std::sqrt(double{kKey}), use);
}

RecurrenceInputs make_inputs(const Context& ctx, const Mixer& m, int64_t tokens) {
  const int64_t writes = tokens * m.micro_steps;
  RecurrenceInputs in;
  in.q = unit_keys(ctx, tokens, "q");
  in.k = unit_keys(ctx, writes, "k");
  in.v = normal_tensor(ctx, {writes, kHeads, kValue}, 1, "v");
  if (m.decay == Decay::kPerHead) in.g = uniform_tensor(ctx, {kHeads}, -0.7, -0.002, "g");
  if (m.decay == Decay::kScalar) in.g = uniform_tensor(ctx, {tokens, kHeads}, -0.1, 0, "g");
  if (m.decay == Decay::kVector) in.g = uniform_tensor(ctx, {tokens, kHeads, kKey}, -0.1, 0, "g");
  if (m.erase == Erase::kBeta || m.erase == Erase::kKey) {
    in.beta = uniform_tensor(ctx, {writes, kHeads}, 0, 1, "beta");
  }
  if (m.erase == Erase::kKey) in.p = unit_keys(ctx, writes, "p");
  if (m.erase == Erase::kVector) {
    in.b = uniform_tensor(ctx, {writes, kHeads, kKey}, 0, 1, "b");
    in.w = uniform_tensor(ctx, {writes, kHeads, kValue}, 0, 1, "w");
  }
  return in;
}

void bench_chunked(Bench& bench, const Mixer& m, const RecurrenceConfig& config) {
  const std::string forward = format("recurrence/{}/forward", m.name);
  const std::string backward = format("recurrence/{}/backward", m.name);
  if (!bench.wants(forward) && !bench.wants(backward)) return;
  const Context& ctx = bench.context();
  const RecurrenceInputs in = make_inputs(ctx, m, kTokens);
  const int64_t starts[] = {0, kTokens};
  const std::string shape = format("T={} H={} K={} V={}{}", kTokens, kHeads, kKey, kValue,
                                   m.micro_steps > 1 ? format(" n={}", m.micro_steps) : "");
  const auto run_forward = [&] { recurrence_forward(ctx, config, in, starts, {}, nullptr); };
  bench.measure({.name = forward,
                 .shape = shape,
                 .work = bench.product_flops(run_forward),
                 .limit = Limit::kPeak,
                 .run = run_forward});
  if (!bench.wants(backward)) return;
  RecurrenceSaved saved;
  recurrence_forward(ctx, config, in, starts, {}, &saved);
  const Tensor d_out = normal_tensor(ctx, {kTokens, kHeads, kValue}, 1, "d_out");
  const auto run_backward = [&] {
    recurrence_backward(ctx, config, in, starts, saved, d_out, Tensor());
  };
  bench.measure({.name = backward,
                 .shape = shape,
                 .work = bench.product_flops(run_backward),
                 .limit = Limit::kPeak,
                 .run = run_backward});
}

void bench_step(Bench& bench, const Mixer& m, const RecurrenceConfig& config) {
  const std::string name = format("recurrence/{}/step", m.name);
  if (!bench.wants(name)) return;
  const Context& ctx = bench.context();
  const RecurrenceInputs in = make_inputs(ctx, m, 1);
  const Tensor states = normal_tensor(ctx, {kStates, kHeads, kKey, kValue}, 0.1, "states");
  const int64_t starts[] = {0, 1};
  const int64_t state_floats = kHeads * kKey * kValue;
  int64_t turn = 0;
  bench.measure(
      {.name = name,
       .shape = format("batch=1 H={} K={} V={}, {} states in turn", kHeads, kKey, kValue, kStates),
       .work = static_cast<double>(state_floats) * sizeof(float) * 2,
       .limit = Limit::kReadWrite,
       .run = [&] {
         float* state = states.data() + turn * state_floats;
         turn = (turn + 1) % kStates;
         recurrence_forward(ctx, config, in, starts, {&state, 1}, nullptr);
       }});
}

}  // namespace

void bench_recurrence(Bench& bench) {
  for (const Mixer& m : kMixers) {
    RecurrenceConfig config;
    config.decay = m.decay;
    config.erase = m.erase;
    config.micro_steps = m.micro_steps;
    config.scale = 1 / std::sqrt(static_cast<float>(kKey));
    bench_chunked(bench, m, config);
    bench_step(bench, m, config);
  }
}

}  // namespace braid
