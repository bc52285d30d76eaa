// What a decoded token reads of the states, by hand.

#include <doctest/doctest.h>

#include "braid/layers/mixer.h"
#include "braid/stack/model.h"

namespace braid {
namespace {

constexpr int64_t kHeads = 4, kHeadDim = 16, kContext = 100'000;
constexpr size_t kRow = kHeads * kHeadDim * 2 * sizeof(float);  // keys and values of a token
constexpr size_t kKey = kRow / 2;

Model made(const char* stack, int64_t meta_tokens = 0) {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = 64;
  s.heads = kHeads;
  s.head_dim = kHeadDim;
  s.vocab = 64;
  s.meta_tokens = meta_tokens;
  Context ctx;
  ctx.arena = Arena::create(Arena::Mode::kDry);
  return Model(ctx, s);
}

size_t read_of(const char* stack, int64_t tokens, const StateOptions& options = {}) {
  return made(stack).state_read_bytes(tokens, options);
}

}  // namespace

TEST_CASE("softmax attention reads the rows it sees, in the type they are kept in") {
  CHECK(read_of("gqa", kContext) == kContext * kRow);
  CHECK(read_of("gqa", kContext, {KvType::kBF16}) == kContext * kRow / 2);
  CHECK(read_of("gqa{window=1000}", kContext) == 999 * kRow);
  CHECK(read_of("gqa{window=1000}", 10) == 10 * kRow);
  CHECK(read_of("gqa{chunk=1000}", 2500) == 500 * kRow);
  CHECK(made("gqa{window=1000}", 8).state_read_bytes(kContext) == (999 + 8) * kRow);
  CHECK(read_of("gqa | gqa{window=1000}", kContext) == (kContext + 999) * kRow);
}

TEST_CASE("who reads another layer's cache reads it again, and a loop its own in each pass") {
  CHECK(read_of("gqa{as=kv}, gqa{of=kv}", kContext) == 2 * kContext * kRow);
  CHECK(made("gqa{as=kv}, gqa{of=kv}").state_bytes(64) == made("gqa").state_bytes(64));
  CHECK(read_of("loop 3 x gqa", kContext) == 3 * kContext * kRow);
}

TEST_CASE("sparse attention reads what it chooses and what it chooses by") {
  CHECK(read_of("moba{block=512,top_k=3}", kContext) ==
        (kContext % 512 + 2 * 512) * kRow + (kContext / 512 + 1) * kKey);
  // Four query heads of one key choose each for itself.
  CHECK(read_of("moba{block=512,top_k=3,kv_heads=1}", kContext) ==
        ((kContext % 512 + 8 * 512) * kRow + (kContext / 512 + 1) * kKey) / kHeads);
  CHECK(read_of("moba{block=512,top_k=3}", 1000) == 1000 * kRow + kKey);
  // A window of 511 earlier tokens, 14 blocks of 64 outside of it, compressed ones 16 tokens apart.
  const int64_t compressed = (kContext - 32) / 16 + 1;
  CHECK(read_of("nsa", kContext) == (511 + 14 * 64 + compressed + 31) * kRow);
  // Latents of 64 + 8 numbers, index keys of 128.
  CHECK(read_of("dsa", kContext) == (2048 * 72 + kContext * 128) * sizeof(float));
  CHECK(read_of("dsa", 2000) == 2000 * 72 * sizeof(float));
  CHECK(read_of("dsa{as=c}, dsa{of=c}", kContext) ==
        (2 * 2048 * 72 + kContext * 128) * sizeof(float));
}

TEST_CASE("recurrent states are read whole, whatever the context") {
  for (const char* stack : {"kda", "mamba2", "rwkv7", "shortconv"}) {
    INFO(stack);
    CHECK(read_of(stack, kContext) == made(stack).state_bytes(0));
  }
}

}  // namespace braid
