// A decoded token of DeepSeek sparse attention beside latent attention over everything, of the same
// shape: index scores of all keys, the choice, and attention to what was chosen. 500
// % is five times as fast. The published shape has half as many index heads as heads.

#include <vector>

#include "braid/base/format.h"
#include "braid/bench/fill.h"
#include "braid/bench/harness.h"
#include "braid/ops/indexer.h"
#include "braid/ops/latent_attention.h"
#include "braid/state/latent_kv.h"

namespace braid {
namespace {

constexpr int64_t kIndexHeads = 16, kIndexDim = 128, kTop = 2048;

void fill(const Context& ctx, LatentKv& state, int64_t length, int64_t rank, int64_t rope) {
  const Tensor rows = normal_tensor(ctx, {length, rank + rope}, 1, "rows");
  state.append(ctx, rows.data(), rank + rope, rows.data() + rank, rank + rope, length);
}

void bench_decode(Bench& bench, int64_t length) {
  const std::string name = format("dsa/decode/{}k", length / 1024);
  if (!bench.wants(name)) return;
  const Context& ctx = bench.context();
  const LatentConfig c{32, 512, 128, 64, 128, 0.07f};
  LatentKv latents(ctx, c.rank, c.rope), keys(ctx, kIndexDim, 0);
  fill(ctx, latents, length, c.rank, c.rope);
  fill(ctx, keys, length, kIndexDim, 0);
  Parameter kv_b;
  kv_b.value = normal_tensor(ctx, {c.heads * (c.nope + c.dv), c.rank}, 0.04, "kv_b");
  const Tensor q = normal_tensor(ctx, {1, c.heads, c.nope + c.rope}, 1, "q");
  const Tensor index_q = normal_tensor(ctx, {1, kIndexHeads, kIndexDim}, 1, "index_q");
  const Tensor weights = normal_tensor(ctx, {1, kIndexHeads}, 1, "weights");
  const int64_t starts[] = {0, 1};
  const auto attend = [&](const LatentView& view) {
    latent_attention(ctx, c, q, kv_b, starts, {&view, 1});
  };
  const auto sparse = [&] {
    const std::vector<Chosen> chosen =
        choose_keys(ctx, index_q, weights, keys.view(), length - 1, kTop);
    attend(chosen_latents(latents.view(), chosen[0]));
  };
  bench.measure({.name = name,
                 .shape = format("{} tokens, H={} r={}+{}, {} of {} keys, index {} x {}", length,
                                 c.heads, c.rank, c.rope, kTop, length, kIndexHeads, kIndexDim),
                 .work = bench.product_flops(sparse),
                 .limit = Limit::kPeak,
                 .run = sparse,
                 .rival_name = "full attention",
                 .rival = [&] { attend(latents.view()); }});
}

}  // namespace

void bench_sparse(Bench& bench) {
  for (const int64_t length : {16384, 65536}) bench_decode(bench, length);
}

}  // namespace braid
