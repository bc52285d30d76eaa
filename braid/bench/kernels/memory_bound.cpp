// Ops that only move data. Bytes are those of the operands, each counted once; the limit changes
// memory in place, so an op that writes elsewhere, where lines are first fetched, stays below it.

#include <vector>

#include "braid/base/format.h"
#include "braid/bench/fill.h"
#include "braid/bench/harness.h"
#include "braid/ops/conv.h"
#include "braid/ops/depth.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/norm.h"

namespace braid {
namespace {

// 128 MiB an operand, far beyond the caches.
constexpr int64_t kRows = 65536, kWidth = 512;
constexpr double kOperand = double{kRows} * kWidth * sizeof(float);

Parameter parameter(const Context& ctx, Shape shape, const char* name) {
  Parameter p;
  p.name = name;
  p.role = ParamRole::kVector;
  p.value = normal_tensor(ctx, shape, 0.5, name);
  return p;
}

void bench_rows(Bench& bench) {
  const Context& ctx = bench.context();
  if (!bench.wants("norm/rms_norm") && !bench.wants("elementwise/silu_mul") &&
      !bench.wants("conv/short_conv")) {
    return;
  }
  const Tensor x = normal_tensor(ctx, {kRows, kWidth}, 1, "x");
  const std::string shape = format("T={} D={}", kRows, kWidth);
  Parameter gain = parameter(ctx, {kWidth}, "gain");
  bench.measure({.name = "norm/rms_norm",
                 .shape = shape,
                 .work = 2 * kOperand,
                 .limit = Limit::kReadWrite,
                 .run = [&] { rms_norm(ctx, x, gain, 1e-6); }});
  const Tensor up = normal_tensor(ctx, {kRows, kWidth}, 1, "up");
  bench.measure({.name = "elementwise/silu_mul",
                 .shape = shape,
                 .work = 3 * kOperand,
                 .limit = Limit::kReadWrite,
                 .run = [&] { gated(ctx, x, up); }});
  constexpr int64_t kTaps = 4;
  Parameter taps = parameter(ctx, {kWidth, 1, kTaps}, "taps");
  std::vector<int64_t> starts;
  for (int64_t at = 0; at <= kRows; at += 1024) starts.push_back(at);
  bench.measure({.name = "conv/short_conv",
                 .shape = format("{} taps={}", shape, kTaps),
                 .work = 2 * kOperand,
                 .limit = Limit::kReadWrite,
                 .run = [&] { short_conv(ctx, x, taps, starts, true); }});
}

void bench_depth(Bench& bench) {
  if (!bench.wants("attnres/softmax")) return;
  const Context& ctx = bench.context();
  constexpr int kSources = 9;
  constexpr int64_t kTokens = 8192;
  std::vector<Tensor> sources;
  for (int s = 0; s < kSources; ++s) {
    sources.push_back(normal_tensor(ctx, {kTokens, kWidth}, 1, format("source {}", s)));
  }
  Parameter query = parameter(ctx, {kWidth}, "query"), norm = parameter(ctx, {kWidth}, "norm");
  bench.measure({.name = "attnres/softmax",
                 .shape = format("S={} T={} D={}", kSources, kTokens, kWidth),
                 .work = double{kTokens} * kWidth * sizeof(float) * (kSources + 1),
                 .limit = Limit::kReadWrite,
                 .run = [&] { depth_softmax(ctx, sources, query, norm); }});
}

}  // namespace

void bench_memory_bound(Bench& bench) {
  bench_rows(bench);
  bench_depth(bench);
}

}  // namespace braid
