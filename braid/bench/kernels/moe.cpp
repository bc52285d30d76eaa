// Mixtures of experts against one dense layer of the same active parameters: what routing,
// gathering and many small products cost.

#include "braid/base/format.h"
#include "braid/bench/fill.h"
#include "braid/bench/harness.h"
#include "braid/layers/channel.h"

namespace braid {
namespace {

struct Size {
  int64_t width, experts, top_k, ffn;
};
constexpr Size kSizes[] = {{1024, 32, 4, 512}, {1024, 128, 8, 256}};

struct Built {
  ParameterSet set;
  std::unique_ptr<Layer> layer;

  Built(const Context& ctx, const char* name, int64_t width, Options options) {
    LayerEnv env;
    env.width = width;
    env.init_std = env.out_init_std = 0.05;
    ParamBuilder params(ctx, set, 1);
    layer = find_channel(name)->make(options, env, params);
  }
  Tensor run(const Context& ctx, const Tensor& x) {
    return layer->forward(ctx, x, Batch::uniform(1, x.size(0)), {});
  }
};

void bench_size(Bench& bench, const Size& s) {
  const Context& ctx = bench.context();
  Options experts, dense;
  experts.set("experts", std::to_string(s.experts));
  experts.set("top_k", std::to_string(s.top_k));
  experts.set("ffn", std::to_string(s.ffn));
  dense.set("ffn", std::to_string(s.top_k * s.ffn));
  Built moe(ctx, "moe", s.width, experts), swiglu(ctx, "swiglu", s.width, dense);
  const std::string shape = format("D={} E={} k={} F={}", s.width, s.experts, s.top_k, s.ffn);
  const double weights = static_cast<double>(3 * s.width * s.top_k * s.ffn);
  for (const int64_t tokens : {2048, 512}) {
    const Tensor x = normal_tensor(ctx, {tokens, s.width}, 1, "x");
    bench.measure({.name = "moe/prefill",
                   .shape = format("T={} {}", tokens, shape),
                   .work = 2 * weights * static_cast<double>(tokens),
                   .limit = Limit::kPeak,
                   .run = [&] { moe.run(ctx, x); },
                   .rival_name = "swiglu",
                   .rival = [&] { swiglu.run(ctx, x); }});
  }
  // Another token each time, so that the experts come from memory.
  const int64_t many = 64;
  const Tensor x = normal_tensor(ctx, {many, s.width}, 1, "one");
  int64_t at = 0;
  bench.measure({.name = "moe/decode",
                 .shape = "T=1 " + shape,
                 .work = sizeof(float) * (weights + static_cast<double>(s.experts * s.width)),
                 .limit = Limit::kRead,
                 .run = [&] { moe.run(ctx, x.narrow(0, at++ % many, 1)); }});
}

}  // namespace

void bench_moe(Bench& bench) {
  if (!bench.wants("moe/prefill") && !bench.wants("moe/decode")) return;
  for (const Size& s : kSizes) bench_size(bench, s);
}

}  // namespace braid
