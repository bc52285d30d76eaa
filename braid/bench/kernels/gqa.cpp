// Softmax attention without its projections: prefill, backward, and one token against a long cache.

#include <cmath>

#include "braid/base/format.h"
#include "braid/bench/fill.h"
#include "braid/bench/harness.h"
#include "braid/ops/attention.h"
#include "braid/ops/latent_attention.h"
#include "braid/state/kv_state.h"
#include "braid/state/latent_kv.h"

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

// With forget gates when `forgets` (mixer fox).
void bench_training(Bench& bench, const Size& s, bool forgets) {
  const char* prefill = forgets ? "fox/prefill" : "gqa/prefill";
  const char* back = forgets ? "fox/backward" : "gqa/backward";
  if (!bench.wants(prefill) && !bench.wants(back)) return;
  const Context& ctx = bench.context();
  const AttentionConfig config = config_of(s);
  Tensor q = normal_tensor(ctx, {s.tokens, s.heads, s.head_dim}, 1, "q");
  const Tensor k = normal_tensor(ctx, {s.tokens, s.kv_heads, s.head_dim}, 1, "k");
  const Tensor v = normal_tensor(ctx, {s.tokens, s.kv_heads, s.head_dim}, 1, "v");
  const Tensor gates = forgets ? Tensor::full(ctx, {s.tokens, s.heads}, -0.01f) : Tensor();
  const int64_t starts[] = {0, s.tokens};
  const auto forward = [&] { attention(ctx, config, q, k, v, starts, nullptr, gates); };
  bench.measure({.name = prefill,
                 .shape = shape_of(s),
                 .work = bench.product_flops(forward),
                 .limit = Limit::kPeak,
                 .run = forward});
  if (!bench.wants(back)) return;
  // Softmax denominators of the right size; the real ones would cost the same.
  const Tensor out = attention(ctx, config, q, k, v, starts, nullptr, gates);
  const Tensor lse = Tensor::full(ctx, {s.heads, s.tokens}, 12);
  const Tensor d_out = normal_tensor(ctx, q.shape(), 1, "d_out");
  const auto backward = [&] {
    attention_backward(ctx, config, q, k, v, out, lse, d_out, starts, nullptr, gates);
  };
  bench.measure({.name = back,
                 .shape = shape_of(s),
                 .work = bench.product_flops(backward),
                 .limit = Limit::kPeak,
                 .run = backward});
}

// What rounded weights made, whose attention takes 16 bits where that is fast, beside f32.
void bench_rounded(Bench& bench, const Size& s) {
  const char* name = "gqa/prefill-rounded";
  if (!bench.wants(name)) return;
  const Context& ctx = bench.context();
  const AttentionConfig exact = config_of(s);
  AttentionConfig rounded = exact;
  rounded.rounded = true;
  const Tensor q = normal_tensor(ctx, {s.tokens, s.heads, s.head_dim}, 1, "q");
  const Tensor k = normal_tensor(ctx, {s.tokens, s.kv_heads, s.head_dim}, 1, "k");
  const Tensor v = normal_tensor(ctx, {s.tokens, s.kv_heads, s.head_dim}, 1, "v");
  const int64_t starts[] = {0, s.tokens};
  const auto run = [&] { attention(ctx, rounded, q, k, v, starts); };
  bench.measure({.name = name,
                 .shape = shape_of(s),
                 .work = bench.product_flops(run),
                 .limit = Limit::kPeak,
                 .run = run,
                 .rival_name = "f32",
                 .rival = [&] { attention(ctx, exact, q, k, v, starts); }});
}

// A cache of s.tokens random positions.
GrowingKv filled(const Context& ctx, const Size& s, KvType type) {
  const int64_t row = s.kv_heads * s.head_dim;
  const Tensor k = normal_tensor(ctx, {s.tokens, s.kv_heads, s.head_dim}, 1, "k");
  const Tensor v = normal_tensor(ctx, {s.tokens, s.kv_heads, s.head_dim}, 1, "v");
  GrowingKv kv(ctx, {s.kv_heads, s.head_dim}, type);
  kv.append(ctx, k.data(), row, v.data(), row, s.tokens);
  return kv;
}

void bench_decode(Bench& bench, const Size& s, KvType type) {
  if (!bench.wants("gqa/decode")) return;
  const Context& ctx = bench.context();
  const AttentionConfig config = config_of(s);
  const Tensor q = normal_tensor(ctx, {1, s.heads, s.head_dim}, 1, "q");
  const GrowingKv kv = filled(ctx, s, type);
  const KvView view = kv.view();
  const int64_t starts[] = {0, 1};
  bench.measure({.name = "gqa/decode",
                 .shape = shape_of(s) + " " + kv_type_name(type),
                 .work = static_cast<double>(kv.bytes()),
                 .limit = Limit::kRead,
                 .run = [&] {
                   attention_cached(ctx, config, q, starts, {&view, 1});
                 }});
}

// The last 512 tokens of a long prompt.
void bench_long_prefill(Bench& bench, const Size& s, KvType type) {
  if (!bench.wants("gqa/prefill-long")) return;
  const Context& ctx = bench.context();
  const AttentionConfig config = config_of(s);
  const Tensor q = normal_tensor(ctx, {512, s.heads, s.head_dim}, 1, "q");
  const GrowingKv kv = filled(ctx, s, type);
  const KvView view = kv.view();
  const int64_t starts[] = {0, 512};
  const auto run = [&] { attention_cached(ctx, config, q, starts, {&view, 1}); };
  bench.measure({.name = "gqa/prefill-long",
                 .shape = shape_of(s) + " " + kv_type_name(type),
                 .work = bench.product_flops(run),
                 .limit = Limit::kPeak,
                 .run = run});
}

void bench_latent(Bench& bench, int64_t length, int64_t tokens, KvType type) {
  const char* name = tokens == 1 ? "mla/decode" : "mla/prefill-long";
  if (!bench.wants(name)) return;
  const Context& ctx = bench.context();
  const LatentConfig c{32, 512, 128, 64, 128, 0.07f};  // Kimi Linear's
  const Tensor q = normal_tensor(ctx, {tokens, c.heads, c.nope + c.rope}, 1, "q");
  Parameter kv_b;
  kv_b.value = normal_tensor(ctx, {c.heads * (c.nope + c.dv), c.rank}, 0.05, "kv_b");
  LatentKv kv(ctx, c.rank, c.rope, type);
  const Tensor rows = normal_tensor(ctx, {length, c.rank + c.rope}, 1, "latents");
  kv.append(ctx, rows.data(), c.rank + c.rope, rows.data() + c.rank, c.rank + c.rope, length);
  const LatentView view = kv.view();
  const int64_t starts[] = {0, tokens};
  const auto run = [&] { latent_attention(ctx, c, q, kv_b, starts, {&view, 1}); };
  bench.measure(
      {.name = name,
       .shape = format("T={} new={} H=32 r=512+64 {}", length, tokens, kv_type_name(type)),
       .work = bench.product_flops(run),
       .limit = Limit::kPeak,
       .run = run});
}

}  // namespace

void bench_gqa(Bench& bench) {
  for (const bool forgets : {false, true}) {
    bench_training(bench, {4096, 16, 4, 128}, forgets);
    bench_training(bench, {4096, 8, 8, 64}, forgets);
  }
  bench_rounded(bench, {2048, 16, 8, 128});
  bench_rounded(bench, {2048, 16, 2, 256});
  for (const KvType type : {KvType::kF32, KvType::kBF16, KvType::kQ8}) {
    bench_decode(bench, {16384, 32, 8, 128}, type);
    bench_decode(bench, {65536, 16, 2, 256}, type);
    bench_long_prefill(bench, {16384, 32, 8, 128}, type);
    bench_latent(bench, 16384, 1, type);
    bench_latent(bench, 16384, 512, type);
  }
}

}  // namespace braid
