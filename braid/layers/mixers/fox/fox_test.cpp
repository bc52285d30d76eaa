#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "braid/base/rng.h"
#include "braid/ops/attention.h"
#include "braid/ops/step.h"
#include "braid/state/kv_state.h"
#include "braid/testing/mixer_battery.h"

namespace braid {
namespace {

void check(const char* options, const char* f32_matrices) {
  for (const std::string& failure : testing::check_mixer(
           "fox", {.options = options, .f32_matrices = f32_matrices, .constant_state = false})) {
    FAIL_CHECK(failure);
  }
}

Tensor random(const Context& ctx, Shape shape, uint64_t seed) {
  Tensor t = Tensor::empty(ctx, shape);
  const Rng rng(seed, "fox_test");
  for (int64_t i = 0; i < t.count(); ++i)
    t.data()[i] = static_cast<float>(rng.normal(static_cast<uint64_t>(i)));
  return t;
}

}  // namespace

TEST_CASE("attention with forget gates gives the same bits wherever a prefill is cut") {
  const int64_t n = 300;
  const Context ctx;
  const AttentionConfig c{4, 2, 24, 0.2f};
  const Tensor q = random(ctx, {n, 4, 24}, 1), k = random(ctx, {n, 2, 24}, 2),
               v = random(ctx, {n, 2, 24}, 3), gates = random(ctx, {n, 4}, 4);
  for (int64_t i = 0; i < gates.count(); ++i) gates.data()[i] = -std::abs(gates.data()[i]);
  const Tensor whole = attention(ctx, c, q, k, v, std::vector<int64_t>{0, n}, nullptr, gates);
  for (const int64_t cut : {kStepTokens + 1, int64_t{64}, int64_t{150}, n - kStepTokens - 1}) {
    GrowingKv kv(ctx, {.heads = 2, .head_dim = 24, .decay_heads = 4});
    for (const auto& [begin, count] : {std::pair{int64_t{0}, cut}, {cut, n - cut}}) {
      kv.append(ctx, k.data() + begin * 48, 48, v.data() + begin * 48, 48, count,
                gates.data() + begin * 4, 4);
      const KvView view = kv.view();
      const Tensor part = attention_cached(ctx, c, q.narrow(0, begin, count),
                                           std::vector<int64_t>{0, count}, std::span(&view, 1));
      CHECK(std::memcmp(part.data(), whole.data() + begin * 96, part.bytes()) == 0);
    }
  }
}

TEST_CASE("fox") {
  for (const char* options :
       {"", "heads=4,kv_heads=2,head_dim=6,qk_norm=true,out_norm=true,gate=true",
        "kv_heads=1,rope=true,window=9"}) {
    check(options, "fgate_proj.weight ");
  }
}

TEST_CASE("fox with shifted keys and values") {
  for (const char* options :
       {"shift=true", "heads=4,kv_heads=2,qk_norm=true,out_norm=true,gate=true,shift=true"}) {
    check(options, "fgate_proj.weight k_proj.shift_proj.weight v_proj.shift_proj.weight ");
  }
}

}  // namespace braid
