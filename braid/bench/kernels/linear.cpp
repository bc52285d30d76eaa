// Linear layers at training shapes, against what oneDNN alone reaches on the same product.

#include "braid/ops/linear.h"

#include "braid/base/format.h"
#include "braid/bench/fill.h"
#include "braid/bench/harness.h"
#include "braid/kernels/gemm/gemm.h"

namespace braid {
namespace {

struct Size {
  int64_t tokens, in, out;
};

// Projections and feed-forward of width 512 at 4 x 1024 tokens, then of the demo's width.
constexpr Size kSizes[] = {
    {4096, 512, 512}, {4096, 512, 1536}, {4096, 1536, 512}, {4096, 192, 512}};

void bench_size(Bench& bench, const Size& s) {
  const Context& ctx = bench.context();
  const Tensor x = normal_tensor(ctx, {s.tokens, s.in}, 1, "x");
  const Tensor dy = normal_tensor(ctx, {s.tokens, s.out}, 1, "dy");
  Parameter w;
  w.name = "bench.weight";
  w.value = normal_tensor(ctx, {s.out, s.in}, 0.02, "w");
  Tensor y = Tensor::empty(ctx, {s.tokens, s.out});
  Tensor dx = Tensor::empty(ctx, {s.tokens, s.in});
  Tensor dw = Tensor::zeros(ctx, {s.out, s.in});
  const std::string shape = format("T={} in={} out={}", s.tokens, s.in, s.out);
  const double flops = 2.0 * static_cast<double>(s.tokens * s.in * s.out);
  bench.measure({.name = "linear/forward",
                 .shape = shape,
                 .work = flops,
                 .limit = Limit::kPeak,
                 .run = [&] { linear(ctx, x, w); },
                 .rival_name = "onednn",
                 .rival =
                     [&] {
                       onednn_f32(false, true, s.tokens, s.out, s.in, x.data(), s.in,
                                  w.value.data(), s.in, 0, y.data(), s.out);
                     }});
  w.grad = Tensor::zeros(ctx, {s.out, s.in});
  bench.measure({.name = "linear/backward",
                 .shape = shape,
                 .work = 2 * flops,
                 .limit = Limit::kPeak,
                 .run = [&] { linear_backward(ctx, x, w, dy, true); },
                 .rival_name = "onednn",
                 .rival =
                     [&] {
                       onednn_f32(true, false, s.out, s.in, s.tokens, dy.data(), s.out, x.data(),
                                  s.in, 1, dw.data(), s.in);
                       onednn_f32(false, false, s.tokens, s.in, s.out, dy.data(), s.out,
                                  w.value.data(), s.in, 0, dx.data(), s.in);
                     }});
}

}  // namespace

void bench_linear(Bench& bench) {
  if (!bench.wants("linear/forward") && !bench.wants("linear/backward")) return;
  for (const Size& s : kSizes) bench_size(bench, s);
}

}  // namespace braid
