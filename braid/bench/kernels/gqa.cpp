// Softmax attention without its projections: prefill, backward, and one token against a long cache.

#include <cmath>

#include "braid/base/format.h"
#include "braid/bench/fill.h"
#include "braid/bench/harness.h"
#include "braid/ops/attention.h"
#include "braid/state/kv_state.h"

namespace braid {
namespace {

struct Size {
  int64_t tokens, heads, kv_heads, head_dim;
};

AttentionConfig config_of(const Size& s) {
  AttentionConfig c;
  c.heads = s.heads;
  c.kv_heads = s.kv_heads;
  c.head_dim = s.head_dim;
  c.scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
  return c;
}

std::string shape_of(const Size& s) {
  return format("T={} H={} HKV={} K={}", s.tokens, s.heads, s.kv_heads, s.head_dim);
}

void bench_training(Bench& bench, const Size& s) {
  if (!bench.wants("gqa/prefill") && !bench.wants("gqa/backward")) return;
  const Context& ctx = bench.context();
  const AttentionConfig config = config_of(s);
  Tensor q = normal_tensor(ctx, {s.tokens, s.heads, s.head_dim}, 1, "q");
  const Tensor k = normal_tensor(ctx, {s.tokens, s.kv_heads, s.head_dim}, 1, "k");
  const Tensor v = normal_tensor(ctx, {s.tokens, s.kv_heads, s.head_dim}, 1, "v");
  const int64_t starts[] = {0, s.tokens};
  const auto forward = [&] { attention(ctx, config, q, k, v, starts); };
  bench.measure({.name = "gqa/prefill",
                 .shape = shape_of(s),
                 .work = bench.product_flops(forward),
                 .limit = Limit::kPeak,
                 .run = forward});
  if (!bench.wants("gqa/backward")) return;
  // Softmax denominators of the right size; the real ones would cost the same.
  const Tensor out = attention(ctx, config, q, k, v, starts);
  const Tensor lse = Tensor::full(ctx, {s.heads, s.tokens}, 12);
  const Tensor d_out = normal_tensor(ctx, q.shape(), 1, "d_out");
  const auto backward = [&] { attention_backward(ctx, config, q, k, v, out, lse, d_out, starts); };
  bench.measure({.name = "gqa/backward",
                 .shape = shape_of(s),
                 .work = bench.product_flops(backward),
                 .limit = Limit::kPeak,
                 .run = backward});
}

void bench_decode(Bench& bench, const Size& s) {
  if (!bench.wants("gqa/decode")) return;
  const Context& ctx = bench.context();
  const AttentionConfig config = config_of(s);
  const Tensor k = normal_tensor(ctx, {s.tokens, s.kv_heads, s.head_dim}, 1, "k");
  const Tensor v = normal_tensor(ctx, {s.tokens, s.kv_heads, s.head_dim}, 1, "v");
  const Tensor q = normal_tensor(ctx, {1, s.heads, s.head_dim}, 1, "q");
  GrowingKv kv(ctx, s.kv_heads, s.head_dim);
  const int64_t row = s.kv_heads * s.head_dim;
  kv.append(ctx, k.data(), row, v.data(), row, s.tokens);
  const KvView view = kv.view();
  const int64_t starts[] = {0, 1};
  bench.measure({.name = "gqa/decode",
                 .shape = shape_of(s),
                 .work = static_cast<double>(2 * s.tokens * row) * sizeof(float),
                 .limit = Limit::kRead,
                 .run = [&] {
                   attention_cached(ctx, config, q, starts, {&view, 1});
                 }});
}

}  // namespace

void bench_gqa(Bench& bench) {
  bench_training(bench, {4096, 16, 4, 128});
  bench_training(bench, {4096, 8, 8, 64});
  bench_decode(bench, {16384, 32, 8, 128});
}

}  // namespace braid
