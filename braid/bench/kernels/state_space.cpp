// Mamba-2, Mamba-3 and RWKV-7 on the unified recurrence. FLOPs are those of the form itself, chunks
// of as many tokens as the kernel takes (specs/state-space.md section 2.4), not the products that
// the kernel does.

#include <cmath>
#include <vector>

#include "braid/base/format.h"
#include "braid/bench/fill.h"
#include "braid/bench/harness.h"
#include "braid/ops/recurrence.h"

namespace braid {
namespace {

constexpr int64_t kTokens = 1024;
constexpr double kChunk = 32;  // rows of a chunk

struct Form {
  const char* name;
  int64_t heads, groups, key_dim, value_dim;
  bool dplr;
  // Per token and value head.
  double forward_flops() const {
    const double k = static_cast<double>(key_dim), v = static_cast<double>(value_dim);
    if (dplr) return 8 * k * v + 4 * (k + v) * (kChunk / 2);
    const double shared = static_cast<double>(groups) / static_cast<double>(heads);
    return 4 * k * v + v * (kChunk + 1) + k * (kChunk + 1) * shared;
  }
  double backward_flops() const {
    const double k = static_cast<double>(key_dim), v = static_cast<double>(value_dim);
    if (dplr) return 16 * k * v + (12 * k + 8 * v) * (kChunk / 2);
    return 10 * k * v + (3 * k + 2 * v) * (kChunk + 1);
  }
};

constexpr Form kForms[] = {
    {"mamba2", 48, 1, 128, 64, false},
    {"mamba3", 32, 32, 128, 64, false},
    {"rwkv7", 32, 32, 64, 64, true},
};

struct Subject {
  RecurrenceConfig config;
  RecurrenceInputs in;
};

Subject make(const Context& ctx, const Form& f, int64_t tokens) {
  Subject s;
  const double key = 1 / std::sqrt(static_cast<double>(f.key_dim));
  const Shape keys{tokens, f.groups, f.key_dim}, values{tokens, f.heads, f.value_dim};
  s.in.q = normal_tensor(ctx, keys, key, "q");
  s.in.k = normal_tensor(ctx, keys, key, "k");
  s.in.v = normal_tensor(ctx, values, 1, "v");
  if (f.dplr) {
    s.config = {.decay = RecurrenceConfig::Decay::kVector, .erase = RecurrenceConfig::Erase::kPair};
    s.in.g = uniform_tensor(ctx, keys, -0.6, -0.01, "g");
    s.in.p = normal_tensor(ctx, keys, key, "a");
    s.in.b = normal_tensor(ctx, keys, key, "b");
    return s;
  }
  s.config = {.decay = RecurrenceConfig::Decay::kScalar, .erase = RecurrenceConfig::Erase::kNone};
  s.in.g = uniform_tensor(ctx, {tokens, f.heads}, -0.5, 0, "g");
  s.in.beta = uniform_tensor(ctx, {tokens, f.heads}, 0.001, 0.1, "dt");
  return s;
}

void bench_form(Bench& bench, const Form& f) {
  const std::string forward = format("ssm/{}/forward", f.name);
  const std::string backward = format("ssm/{}/backward", f.name);
  const std::string ratio = backward + "/beside_forward";
  if (!bench.wants(forward) && !bench.wants(backward) && !bench.wants(ratio)) return;
  const Context& ctx = bench.context();
  const Subject s = make(ctx, f, kTokens);
  const int64_t starts[] = {0, kTokens};
  const std::string shape =
      format("T={} H={} G={} K={} V={}", kTokens, f.heads, f.groups, f.key_dim, f.value_dim);
  const double tokens = static_cast<double>(kTokens * f.heads);
  const auto run_forward = [&] { recurrence_forward(ctx, s.config, s.in, starts, {}, nullptr); };
  bench.measure({.name = forward,
                 .shape = shape,
                 .work = f.forward_flops() * tokens,
                 .limit = Limit::kPeak,
                 .run = run_forward});
  if (!bench.wants(backward) && !bench.wants(ratio)) return;
  RecurrenceSaved saved;
  recurrence_forward(ctx, s.config, s.in, starts, {}, &saved);
  const Tensor d_out = normal_tensor(ctx, {kTokens, f.heads, f.value_dim}, 1, "d_out");
  const auto run_backward = [&] {
    recurrence_backward(ctx, s.config, s.in, starts, saved, d_out, Tensor());
  };
  bench.measure({.name = backward,
                 .shape = shape,
                 .work = f.backward_flops() * tokens,
                 .limit = Limit::kPeak,
                 .run = run_backward});
  bench.measure({.name = ratio,
                 .shape = shape,
                 .work = f.forward_flops() * tokens,
                 .limit = Limit::kPeak,
                 .run = run_backward,
                 .rival_name = "training forward",
                 .rival = [&] {
                   RecurrenceSaved again;
                   recurrence_forward(ctx, s.config, s.in, starts, {}, &again);
                 }});
}

}  // namespace

void bench_state_space(Bench& bench) {
  for (const Form& f : kForms) bench_form(bench, f);
}

}  // namespace braid
