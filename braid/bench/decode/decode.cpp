// Decoding one sequence, token by token, with untrained weights.

#include "braid/base/format.h"
#include "braid/bench/decode_cost.h"
#include "braid/bench/harness.h"
#include "braid/bench/model.h"
#include "braid/infer/generate.h"
#include "braid/stack/model.h"

namespace braid {
namespace {

constexpr int32_t kToken = 'e';

// Bytes a token has to read: every weight in use once (of an untied embedding one row, which
// nobody counts) and what it sees of the state.
double bytes_per_token(const Model& model, int64_t context) {
  const int64_t weights = model.parameters().trained_count() - model.idle_parameters();
  return static_cast<double>(weights) * sizeof(float) +
         static_cast<double>(model.state_read_bytes(context));
}

void bench_f32(Bench& bench) {
  if (!bench.wants("decode/f32")) return;
  const Context& ctx = bench.context();
  const char* stack = "2 x (3 x (kda, swiglu), gqa, swiglu)";
  constexpr int64_t kWidth = 1024, kContext = 1024;
  Model model(ctx, bench_settings(stack, "attnres", kWidth));
  SequenceState sequence = synthetic_sequence(ctx, model, kContext);
  const double bytes = bytes_per_token(model, kContext);
  bench.measure({.name = "decode/f32",
                 .shape = format("{:.0f} MB read per token, width={} {} + attnres", bytes * 1e-6,
                                 kWidth, stack),
                 .work = bytes,
                 .limit = Limit::kRead,
                 .run = [&] {
                   advance(ctx, model, sequence, {&kToken, 1});
                 }});
}

// A stack without attention: the share is the time at context 0 over the time at this one.
void bench_linear_context(Bench& bench) {
  if (!bench.wants("decode/linear-context")) return;
  const Context& ctx = bench.context();
  const char* stack = "4 x (kda, swiglu)";
  constexpr int64_t kWidth = 512;
  Model model(ctx, bench_settings(stack, "prenorm", kWidth));
  for (const int64_t context : {int64_t{0}, int64_t{65536}, int64_t{1} << 20}) {
    SequenceState fresh = model.new_sequence(ctx);
    SequenceState there = synthetic_sequence(ctx, model, context);
    bench.measure({.name = "decode/linear-context",
                   .shape = format("context={} state={} bytes width={} {}", context,
                                   model.state_bytes(context), kWidth, stack),
                   .work = bytes_per_token(model, context),
                   .limit = Limit::kRead,
                   .run =
                       [&] {
                         advance(ctx, model, there, {&kToken, 1});
                       },
                   .rival_name = "context_0",
                   .rival =
                       [&] {
                         advance(ctx, model, fresh, {&kToken, 1});
                       }});
  }
}

}  // namespace

void bench_decode(Bench& bench) {
  bench_f32(bench);
  bench_linear_context(bench);
}

}  // namespace braid
