// Mamba's selective scan at the widths of Mamba 130M and 2.8B. Forward is measured beside its own
// arithmetic alone: the exponential and the multiply-adds of as many states, on registers, with no
// token to load (softplus, one for N states, is not among it). Backward is measured beside forward:
// share 40 % is 2.5 times forward's time.

#include "braid/ops/selective_scan.h"

#include <vector>

#include "braid/base/format.h"
#include "braid/bench/fill.h"
#include "braid/bench/harness.h"
#include "braid/core/parallel.h"
#include "braid/kernels/scan/selective_scan.h"

namespace braid {
namespace {

constexpr int64_t kTokens = 1024, kStateSize = 16;
constexpr int64_t kChannels[] = {1536, 5120};
// Of all states stepped in turn: a model's other layers would have driven a state out of the caches
// by the time its next token comes.
constexpr int64_t kStateBytes = int64_t{192} << 20;

struct Scan {
  int64_t channels;
  Parameter a_log, skip, dt_bias;
  SelectiveScanInputs in;

  Scan(const Context& ctx, int64_t tokens, int64_t channels) : channels(channels) {
    a_log.value = uniform_tensor(ctx, {channels, kStateSize}, 0, 2.8, "A_log");
    skip.value = uniform_tensor(ctx, {channels}, 0.5, 1.5, "D");
    dt_bias.value = uniform_tensor(ctx, {channels}, -6.9, -2.3, "dt_bias");
    in.x = normal_tensor(ctx, {tokens, channels}, 1, "x");
    in.raw = normal_tensor(ctx, {tokens, channels}, 1, "raw");
    in.b = normal_tensor(ctx, {tokens, kStateSize}, 1, "b");
    in.c = normal_tensor(ctx, {tokens, kStateSize}, 1, "c");
  }
  SelectiveScanParams params() { return {&a_log, &skip, &dt_bias}; }
  std::string shape() const { return format("T={} D={} N={}", in.x.size(0), channels, kStateSize); }
};

void arithmetic_of(const Context& ctx, int64_t tokens, int64_t channels) {
  std::vector<float> sinks(static_cast<size_t>((channels + kScanBlock - 1) / kScanBlock));
  parallel_for(ctx, std::ssize(sinks), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t width = std::min(kScanBlock, channels - block * kScanBlock);
      selective_scan_arithmetic(tokens, width, kStateSize, &sinks[static_cast<size_t>(block)]);
    }
  });
}

void bench_sequence(Bench& bench, int64_t channels) {
  const std::string forward = format("scan/{}/forward", channels);
  const std::string backward = format("scan/{}/backward", channels);
  if (!bench.wants(forward) && !bench.wants(backward)) return;
  const Context& ctx = bench.context();
  Scan scan(ctx, kTokens, channels);
  const int64_t starts[] = {0, kTokens};
  const auto run_forward = [&] {
    selective_scan_forward(ctx, scan.in, scan.params(), starts, {}, nullptr);
  };
  const double work = bench.product_flops(run_forward);
  bench.measure({.name = forward,
                 .shape = scan.shape(),
                 .work = work,
                 .limit = Limit::kPeak,
                 .run = run_forward,
                 .rival_name = "its arithmetic",
                 .rival = [&] { arithmetic_of(ctx, kTokens, channels); }});
  if (!bench.wants(backward)) return;
  Tensor kept;
  selective_scan_forward(ctx, scan.in, scan.params(), starts, {}, &kept);
  const Tensor d_out = normal_tensor(ctx, {kTokens, channels}, 1, "d_out");
  const auto run_training_forward = [&] {
    Tensor again;
    selective_scan_forward(ctx, scan.in, scan.params(), starts, {}, &again);
  };
  bench.measure({.name = backward,
                 .shape = scan.shape(),
                 .work = work,
                 .limit = Limit::kPeak,
                 .run =
                     [&] {
                       selective_scan_backward(ctx, scan.in, scan.params(), starts, kept, d_out,
                                               Tensor());
                     },
                 .rival_name = "forward",
                 .rival = run_training_forward});
}

void bench_step(Bench& bench, int64_t channels) {
  const std::string name = format("scan/{}/step", channels);
  if (!bench.wants(name)) return;
  const Context& ctx = bench.context();
  Scan scan(ctx, 1, channels);
  const int64_t floats = channels * kStateSize;
  const int64_t count = kStateBytes / (floats * static_cast<int64_t>(sizeof(float)));
  const Tensor states = normal_tensor(ctx, {count, kStateSize, channels}, 0.1, "states");
  const int64_t starts[] = {0, 1};
  int64_t turn = 0;
  bench.measure(
      {.name = name,
       .shape = format("{}, {} states in turn", scan.shape(), count),
       .work = static_cast<double>(floats) * sizeof(float) * 2,
       .limit = Limit::kReadWrite,
       .run = [&] {
         float* state = states.data() + turn * floats;
         turn = (turn + 1) % count;
         selective_scan_forward(ctx, scan.in, scan.params(), starts, {&state, 1}, nullptr);
       }});
}

}  // namespace

void bench_selective_scan(Bench& bench) {
  for (const int64_t channels : kChannels) {
    bench_sequence(bench, channels);
    bench_step(bench, channels);
  }
}

}  // namespace braid
