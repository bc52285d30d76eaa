// Learned rows before every sequence (meta tokens, arXiv 2411.13676).

#include <doctest/doctest.h>

#include "braid/base/error.h"
#include "braid/stack/model.h"
#include "braid/testing/numeric.h"
#include "braid/testing/stack_battery.h"

namespace braid {
namespace {

ModelSettings settings(const char* stack, int64_t meta) {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = 32;
  s.heads = 2;
  s.vocab = 40;
  s.meta_tokens = meta;
  return s;
}

}  // namespace

TEST_CASE("stacks with meta tokens are those of the reference, in every way a stack runs") {
  for (const auto& [stack, meta] :
       {std::pair<const char*, int64_t>{"gqa, swiglu", 1},
        {"2 x (gqa{window=9}, swiglu), kda", 70},
        {"gqa{as=kv,window=9} | mamba, gqa{of=kv,window=4} + gdn", 5},
        {"diff{heads=4,head_dim=6,window=3}, rwkv7{head_dim=8}, cmix", 3}}) {
    testing::StackBattery battery;
    battery.settings.meta_tokens = meta;
    for (const std::string& f : testing::check_stack(stack, battery)) FAIL_CHECK(f);
  }
  testing::StackBattery scaled{.residual = "attnres{block_sublayers=2}"};
  scaled.settings.meta_tokens = 4;
  scaled.settings.embedding_scale = 3;
  scaled.settings.embedding_norm = true;
  for (const std::string& f : testing::check_stack("gqa, swiglu, gdn, swiglu", scaled))
    FAIL_CHECK(f);
}

TEST_CASE(
    "without windows they are tokens of a larger vocabulary that every sequence begins with") {
  const Context ctx;
  const int64_t meta = 6;
  const char* stack = "2 x (gqa, swiglu), mamba2{state=8,head_dim=8} + kda";
  Model with(ctx, settings(stack, meta));
  ModelSettings larger = settings(stack, 0);
  larger.vocab = 40 + meta;
  Model without(ctx, larger);
  for (Parameter& p : without.parameters()) {
    if (p.name != "embed_tokens.weight") set_f32(p, with.parameters().find(p.name)->value);
  }
  float* table = without.parameters().find("embed_tokens.weight")->value.data();
  for (const char* name : {"embed_tokens.weight", "meta_tokens.weight"}) {
    const Tensor& rows = with.parameters().find(name)->value;
    table = std::copy_n(rows.data(), rows.count(), table);
  }
  std::vector<int32_t> ids, all;
  for (int32_t i = 0; i < meta; ++i) all.push_back(40 + i);
  for (int32_t i = 0; i < 30; ++i) ids.push_back(i * 7 % 40);
  all.insert(all.end(), ids.begin(), ids.end());
  const Tensor want = without.hidden(ctx, all, Batch::uniform(1, 30 + meta));
  const Tensor got = with.hidden(ctx, ids, Batch::uniform(1, 30));
  CHECK(testing::worst_error(got, want.narrow(0, meta, 30)) < 1e-6);
}

TEST_CASE("fresh meta tokens are normal, and a fresh sequence holds nothing yet") {
  const Context ctx;
  Model model(ctx, settings("gqa{window=4}, kda", 128));
  const Tensor& rows = model.parameters().find("meta_tokens.weight")->value;
  double square = 0;
  for (int64_t i = 0; i < rows.count(); ++i) square += double{rows.data()[i]} * rows.data()[i];
  CHECK(square / static_cast<double>(rows.count()) == doctest::Approx(1).epsilon(0.05));
  const Model plain(ctx, settings("gqa{window=4}, kda", 0));
  CHECK(model.state_bytes(0) == plain.state_bytes(0));
  // 128 rows in two pages, and the window's own.
  CHECK(model.state_bytes(10'000) > plain.state_bytes(10'000));
  CHECK(model.state_bytes(20'000) == model.state_bytes(20'000 + 64 * 100));
}

TEST_CASE("layers that cannot keep meta tokens visible refuse them") {
  const Context ctx;
  CHECK_THROWS_WITH_AS(Model(ctx, settings("gqa{chunk=8}", 4)),
                       doctest::Contains("chunk=8 would hide the 4 meta tokens"), Error);
  CHECK_THROWS_WITH_AS(Model(ctx, settings("fox{window=8}", 4)),
                       doctest::Contains("window=8 would hide the 4 meta tokens"), Error);
}

}  // namespace braid
