// Mixtures of experts against one dense layer of the same active parameters: what routing,
// gathering and many small products cost.

#include <algorithm>

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
  // All that may be of that type.
  void pack(const Context& ctx, WeightType type) {
    for (Parameter& p : set) {
      const WeightType own = weight_type_for(p, type);
      if (own == WeightType::kF32) continue;
      const Tensor value = p.value;
      const int64_t cols = value.size(-1);
      set_weight(p, pack_weight(ctx, own, value.shape(), [&](int64_t row, float* out) {
                   std::copy_n(value.data() + row * cols, cols, out);
                 }));
    }
  }
  Tensor run(const Context& ctx, const Tensor& x) {
    return layer->forward(ctx, x, Batch::uniform(1, x.size(0)), {});
  }
};

void bench_size(Bench& bench, const Size& s, WeightType type) {
  const Context& ctx = bench.context();
  Options experts, dense;
  experts.set("experts", std::to_string(s.experts));
  experts.set("top_k", std::to_string(s.top_k));
  experts.set("ffn", std::to_string(s.ffn));
  dense.set("ffn", std::to_string(s.top_k * s.ffn));
  Built moe(ctx, "moe", s.width, experts), swiglu(ctx, "swiglu", s.width, dense);
  double bytes = 0;
  for (Built* b : {&moe, &swiglu}) b->pack(ctx, type);
  for (const Parameter& p : swiglu.set) bytes += static_cast<double>(p.bytes());
  const std::string shape =
      format("{} D={} E={} k={} F={}", weight_type_name(type), s.width, s.experts, s.top_k, s.ffn);
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
                 .work = bytes + sizeof(float) * static_cast<double>(s.experts * s.width),
                 .limit = Limit::kRead,
                 .run = [&] { moe.run(ctx, x.narrow(0, at++ % many, 1)); }});
}

}  // namespace

void bench_moe(Bench& bench) {
  if (!bench.wants("moe/prefill") && !bench.wants("moe/decode")) return;
  for (const WeightType type :
       {WeightType::kF32, WeightType::kBF16, WeightType::kQ8, WeightType::kQ4}) {
    for (const Size& s : kSizes) bench_size(bench, s, type);
  }
}

}  // namespace braid
