// The mixers of softmax attention as layers, projections included: a prompt, its gradients, and one
// more token after a long context. A decoded token is shown twice: beside the machine's read
// bandwidth, by the bytes that it must read, and beside gqa of the same heads (500 % is five times
// as fast).

#include <vector>

#include "braid/base/format.h"
#include "braid/bench/decode_cost.h"
#include "braid/bench/fill.h"
#include "braid/bench/harness.h"
#include "braid/layers/mixer.h"
#include "braid/ops/tape.h"

namespace braid {
namespace {

constexpr int64_t kWidth = 1024, kHeads = 16, kKvHeads = 4, kDim = 64, kTokens = 2048;

struct Subject {
  ParameterSet params;
  std::unique_ptr<Layer> layer;

  Subject(const Context& ctx, const char* mixer) {
    LayerEnv env;
    env.width = kWidth;
    env.heads = kHeads;
    env.head_dim = kDim;
    Options options;
    options.set("kv_heads", format("{}", kKvHeads));
    ParamBuilder builder(ctx, params, 1);
    layer = find_mixer(mixer)->make(options, env, builder);
  }
};

// Products with the zeros that stand beside every query of diff, which are no work.
double zero_flops(std::string_view mixer) {
  return mixer == "diff" ? double{kHeads * kDim} * kTokens * (kTokens + 1) : 0;
}

void bench_prompt(Bench& bench, const char* mixer) {
  const std::string forward_name = format("layer/{}/forward", mixer),
                    prefill_name = format("layer/{}/prefill", mixer),
                    back_name = format("layer/{}/step", mixer);
  if (!bench.wants(forward_name) && !bench.wants(prefill_name) && !bench.wants(back_name)) return;
  const Context& ctx = bench.context();
  Subject s(ctx, mixer);
  const Tensor x = normal_tensor(ctx, {kTokens, kWidth}, 1, "x");
  const Tensor up = normal_tensor(ctx, x.shape(), 1, "up");
  const Batch batch = Batch::uniform(1, kTokens);
  const auto forward = [&] { s.layer->forward(ctx, x, batch, {}); };
  const std::string shape =
      format("T={} width={} H={} HKV={} d={}", kTokens, kWidth, kHeads, kKvHeads, kDim);
  bench.measure({.name = forward_name,
                 .shape = shape,
                 .work = bench.product_flops(forward) - zero_flops(mixer),
                 .limit = Limit::kPeak,
                 .run = forward});
  const auto prefill = [&] {  // the same, kept
    const auto state = s.layer->make_state(ctx);
    LayerState* states[] = {state.get()};
    s.layer->forward(ctx, x, batch, states);
  };
  bench.measure({.name = prefill_name,
                 .shape = shape,
                 .work = bench.product_flops(prefill) - zero_flops(mixer),
                 .limit = Limit::kPeak,
                 .run = prefill});
  if (!bench.wants(back_name)) return;
  s.params.allocate_grads(ctx);
  const auto step = [&] {  // forward and backward
    Tape tape;
    Context train = bench.context();
    train.tape = &tape;
    Tensor watched = x;
    tape.watch(watched);
    const Tensor y = s.layer->forward(train, watched, batch, {});
    tape.backward(train, y, up);
  };
  bench.measure({.name = back_name,
                 .shape = shape,
                 .work = bench.product_flops(step) - 3.5 * zero_flops(mixer),
                 .limit = Limit::kPeak,
                 .run = step});
}

// One more token of a sequence of `context`, again and again.
struct Decoding {
  Subject subject;
  std::unique_ptr<LayerState> state;
  Tensor x;

  Decoding(const Context& ctx, const char* mixer, int64_t context)
      : subject(ctx, mixer),
        state(subject.layer->make_state(ctx)),
        x(normal_tensor(ctx, {1, kWidth}, 1, "x")) {
    fill_state(ctx, *state, context);
  }
  void step(const Context& ctx) {
    Batch batch = Batch::uniform(1, 1);
    batch.offsets[0] = state->length();
    LayerState* states[] = {state.get()};
    subject.layer->forward(ctx, x, batch, states);
  }
};

// Keys that the heads of a layer of default options read for a token, each key once for the heads
// that share its list: of `context` of all kv heads, or those of the README of the mixer.
double keys_read(std::string_view mixer, int64_t context) {
  const double all = static_cast<double>(context);
  if (mixer == "moba") return kHeads * 3 * 512.0;
  if (mixer == "nsa") return kKvHeads * (all / 16 + 16 * 64 + 512);
  return kKvHeads * all;
}

void bench_decode(Bench& bench, const char* mixer, int64_t context) {
  const std::string name = format("layer/{}/decode/{}k", mixer, context / 1024);
  const std::string beside = name + "/gqa";
  if (!bench.wants(name)) return;
  const Context& ctx = bench.context();
  Decoding own(ctx, mixer, context);
  const auto run = [&] { own.step(bench.context()); };
  const std::string shape =
      format("{} tokens width={} H={} HKV={} d={}", context, kWidth, kHeads, kKvHeads, kDim);
  const double keys = keys_read(mixer, context);
  bench.measure({.name = name,
                 .shape = shape,
                 .work = static_cast<double>(own.subject.params.bytes()) +
                         keys * 2 * kDim * static_cast<double>(sizeof(float)),
                 .limit = Limit::kRead,
                 .run = run});
  if (std::string_view(mixer) == "gqa") return;
  Decoding full(ctx, "gqa", context);
  bench.measure({.name = beside,
                 .shape = shape,
                 .work = bench.product_flops(run),
                 .limit = Limit::kPeak,
                 .run = run,
                 .rival_name = "gqa",
                 .rival = [&] { full.step(bench.context()); }});
}

}  // namespace

void bench_softmax_layers(Bench& bench) {
  for (const char* mixer : {"gqa", "fox", "diff", "moba", "nsa"}) {
    bench_prompt(bench, mixer);
    for (const int64_t context : {16384, 65536}) bench_decode(bench, mixer, context);
  }
}

}  // namespace braid
