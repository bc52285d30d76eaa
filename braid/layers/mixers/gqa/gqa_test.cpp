#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "braid/layers/mixer.h"
#include "braid/layers/mixers/gqa/gqa_ref.h"
#include "braid/ops/tape.h"
#include "braid/state/kv_state.h"
#include "braid/testing/mixer_battery.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::Complex;
using Keys = std::vector<std::pair<const char*, const char*>>;

struct Made {
  ParameterSet params;
  std::unique_ptr<Layer> layer;
  Made(const Context& ctx, int64_t width, const Keys& keys) {
    LayerEnv env;
    env.width = width;
    env.head_dim = 8;
    env.init_std = env.out_init_std = 0.4;
    Options options;
    for (const auto& [key, value] : keys) options.set(key, value);
    ParamBuilder builder(ctx, params, 3);
    layer = find_mixer("gqa")->make(options, env, builder);
    // Gains away from their initial value, so that a norm that ignores them shows.
    for (Parameter& p : params) {
      for (int64_t i = 0; p.value.rank() == 1 && i < p.value.count(); ++i) {
        p.value.data()[i] += 0.1f * static_cast<float>(i % 5 - 2);
      }
    }
  }
  const Tensor& operator[](const char* name) { return params.find(name)->value; }
};

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

// Runs `pieces` of one sequence one after the other with a state, which `between` may replace.
template <typename F>
Tensor in_pieces(const Context& ctx, Layer& layer, const Tensor& x,
                 const std::vector<int64_t>& pieces, F between) {
  std::unique_ptr<LayerState> state = layer.make_state(ctx);
  Tensor y = Tensor::empty(ctx, x.shape());
  int64_t at = 0;
  for (int64_t n : pieces) {
    Batch batch = Batch::uniform(1, n);
    batch.offsets[0] = at;
    LayerState* pointer = state.get();
    const Tensor part = layer.forward(ctx, x.narrow(0, at, n), batch, States(&pointer, 1));
    std::memcpy(y.data() + at * x.size(1), part.data(), part.bytes());
    at += n;
    CHECK(state->length() == at);
    CHECK(state->bytes() == layer.state_bytes(at));
    between(state, at);
  }
  CHECK(at == x.size(0));
  return y;
}

Tensor in_pieces(const Context& ctx, Layer& layer, const Tensor& x,
                 const std::vector<int64_t>& pieces) {
  return in_pieces(ctx, layer, x, pieces, [](std::unique_ptr<LayerState>&, int64_t) {});
}

class MemoryFile final : public StateWriter, public StateReader {
 public:
  void tensor(std::string_view name, const Tensor& value) override {
    tensors[std::string(name)] = value;
  }
  void integer(std::string_view name, int64_t value) override {
    integers[std::string(name)] = value;
  }
  Tensor tensor(std::string_view name, Shape, DType) override {
    return tensors.at(std::string(name));
  }
  int64_t integer(std::string_view name) override { return integers.at(std::string(name)); }
  std::map<std::string, Tensor> tensors;
  std::map<std::string, int64_t> integers;
};

struct Variant {
  Keys options;
  GqaShape shape;
};

// The shape that the options below should resolve to, besides what `change` says.
template <typename F>
GqaShape shape(int64_t heads, int64_t kv_heads, int64_t head_dim, F change) {
  GqaShape s;
  s.width = 16;
  s.heads = heads;
  s.kv_heads = kv_heads;
  s.head_dim = s.rotary = head_dim;
  s.scale = 1 / std::sqrt(static_cast<double>(head_dim));
  change(s);
  return s;
}

const std::vector<Variant>& variants() {
  using S = GqaShape;
  static const std::vector<Variant> all = {
      {{}, shape(2, 2, 8, [](S&) {})},
      {{{"heads", "4"}, {"kv_heads", "2"}, {"head_dim", "6"}, {"rope", "false"}, {"window", "3"}},
       shape(4, 2, 6, [](S& s) { s.rotary = 0, s.window = 3; })},
      {{{"heads", "2"}, {"kv_heads", "1"}, {"gate", "true"}, {"rope", "false"}},
       shape(2, 1, 8, [](S& s) { s.rotary = 0, s.gate = true; })},
      {{{"kv_heads", "1"},
        {"gate", "true"},
        {"qk_norm", "head"},
        {"one_plus", "true"},
        {"rotary", "0.5"},
        {"rope_theta", "100"}},
       shape(2, 1, 8,
             [](S& s) {
               s.rotary = 4, s.theta = 100, s.qk_norm = QkNorm::kHead;
               s.one_plus = s.gate = true;
             })},
      {{{"interleaved", "true"}, {"qk_norm", "head"}, {"window", "5"}},
       shape(2, 2, 8, [](S& s) { s.interleaved = true, s.window = 5, s.qk_norm = QkNorm::kHead; })},
      // gpt-oss
      {{{"kv_heads", "1"},
        {"bias", "qkvo"},
        {"sinks", "true"},
        {"window", "6"},
        {"rope_theta", "1000"},
        {"rope_scaling", "yarn:4:16:32:1:false:1.2"}},
       shape(2, 1, 8,
             [](S& s) {
               s.qkv_bias = s.o_bias = s.sinks = true;
               s.window = 6, s.theta = 1000;
               s.scaling = parse_rope_scaling("", "yarn:4:16:32:1:false:1.2", 8);
             })},
      // Gemma 2's cap, a scale of its own, GLM's bias
      {{{"bias", "qkv"},
        {"softcap", "0.8"},
        {"scale", "0.5"},
        {"out_scale", "0.3"},
        {"rope_scaling", "linear:8"}},
       shape(2, 2, 8,
             [](S& s) {
               s.qkv_bias = true, s.softcap = 0.8, s.scale = 0.5, s.out_scale = 0.3;
               s.scaling = parse_rope_scaling("", "linear:8", 8);
             })},
      // OLMo's norm, Llama 4's chunks, every other way at once
      {{{"kv_heads", "1"},
        {"qk_norm", "full"},
        {"chunk", "4"},
        {"sinks", "true"},
        {"softcap", "1.5"},
        {"rope_scaling", "llama3:8:1:4:64"}},
       shape(2, 1, 8,
             [](S& s) {
               s.qk_norm = QkNorm::kFull, s.chunk = 4, s.sinks = true, s.softcap = 1.5;
               s.scaling = parse_rope_scaling("", "llama3:8:1:4:64", 8);
             })},
      {{{"head_dim", "4"},
        {"heads", "2"},
        {"window", "9"},
        {"chunk", "20"},
        {"rope_scaling", "longrope:3:1.1:1:1.5:2:4"}},
       shape(2, 2, 4, [](S& s) {
         s.window = 9, s.chunk = 20;
         s.scaling = parse_rope_scaling("", "longrope:3:1.1:1:1.5:2:4", 4);
       })}};
  return all;
}

}  // namespace

TEST_CASE("gqa equals its definition, values and gradients") {
  for (const Variant& variant : variants()) {
    Context ctx;
    Made m(ctx, 16, variant.options);
    CAPTURE(m.layer->options().str());
    const int64_t tokens = 11, width = 16;
    const GqaShape& s = variant.shape;
    m.params.allocate_grads(ctx);
    Tensor x = testing::random_tensor(ctx, {tokens, width}, "x");
    const Tensor up = testing::random_tensor(ctx, {tokens, width}, "up");
    Tape tape;
    Context train = ctx;
    train.tape = &tape;
    tape.watch(x);
    const Tensor y = m.layer->forward(train, x, Batch::uniform(1, tokens), {});
    std::vector<double> all = testing::values(x);  // x, then the parameters in their order
    for (const Parameter& p : m.params) {
      const auto v = testing::values(p.value);
      all.insert(all.end(), v.begin(), v.end());
    }
    const auto run = [&](std::span<const Complex> in) {
      std::map<std::string, const Complex*> at;
      const Complex* next = in.data() + tokens * width;
      for (const Parameter& p : m.params) {
        at[p.name] = next;
        next += p.value.count();
      }
      const GqaRef<Complex> ref(
          s, {at["q_proj.weight"], at["k_proj.weight"], at["v_proj.weight"], at["o_proj.weight"],
              at["q_norm.weight"], at["k_norm.weight"], at["q_proj.bias"], at["k_proj.bias"],
              at["v_proj.bias"], at["o_proj.bias"], at["sinks"]});
      return ref(in.first(static_cast<size_t>(tokens * width)), tokens);
    };
    std::vector<double> want;
    for (const Complex& v : run(std::vector<Complex>(all.begin(), all.end())))
      want.push_back(v.real());
    CHECK(testing::worst_error(y, want) <= 3e-6);
    ReferenceParams reference;
    for (const Parameter& p : m.params) reference.values[p.name] = testing::values(p.value);
    const auto again = m.layer->reference(reference, std::span(all).first(tokens * width), tokens);
    CHECK(testing::worst_error(again, want) <= 1e-13);

    tape.backward(ctx, y, up);
    const auto gradient = testing::complex_step(all, [&](std::span<const Complex> in) {
      Complex sum = 0;
      const auto out = run(in);
      for (size_t i = 0; i < out.size(); ++i) sum += out[i] * static_cast<double>(up.data()[i]);
      return sum;
    });
    size_t at = 0;
    const auto check = [&](const Tensor& got) {
      const size_t n = static_cast<size_t>(got.count());
      CHECK(testing::worst_error(got, std::span(gradient).subspan(at, n)) <= 1e-5);
      at += n;
    };
    check(tape.grad(x));
    for (const Parameter& p : m.params) check(p.grad);
    CHECK(at == all.size());
  }
}

TEST_CASE("gqa: cut anywhere, step by step, restored, forked and saved equal the whole") {
  for (const Variant& variant : variants()) {
    Context ctx;
    Made m(ctx, 16, variant.options);
    CAPTURE(m.layer->options().str());
    const int64_t tokens = 133;
    const Tensor x = testing::random_tensor(ctx, {tokens, 16}, "x");
    const Tensor whole = m.layer->forward(ctx, x, Batch::uniform(1, tokens), {});
    for (int64_t cut = 1; cut < tokens; ++cut) {
      // Other kernels serve pieces of one token and small products: equal within rounding.
      CHECK(testing::worst_error(in_pieces(ctx, *m.layer, x, {cut, tokens - cut}), whole) <= 2e-6);
    }
    const std::vector<int64_t> steps(static_cast<size_t>(tokens), 1);
    const Tensor stepped = in_pieces(ctx, *m.layer, x, steps);
    CHECK(testing::worst_error(stepped, whole) <= 2e-6);

    const Tensor through_file =
        in_pieces(ctx, *m.layer, x, steps, [&](std::unique_ptr<LayerState>& s, int64_t at) {
          if (at % 31 != 0) return;
          MemoryFile file;
          s->save(file, "layer.");
          s = m.layer->make_state(ctx);
          s->load(file, "layer.");
        });
    CHECK(same_bits(through_file, stepped));
    std::unique_ptr<LayerState> spoilt;  // a fork that goes another way must not show
    const Tensor forked =
        in_pieces(ctx, *m.layer, x, steps, [&](std::unique_ptr<LayerState>& s, int64_t at) {
          if (at % 29 != 0) return;
          spoilt = std::move(s);
          s = spoilt->snapshot();
          Batch other = Batch::uniform(1, 2);
          other.offsets[0] = at;
          LayerState* pointer = spoilt.get();
          m.layer->forward(ctx, x.narrow(0, 0, 2), other, States(&pointer, 1));
          auto restored = m.layer->make_state(ctx);
          restored->restore(*s);
          s = std::move(restored);
        });
    CHECK(same_bits(forked, stepped));
  }
}

TEST_CASE("gqa: a packed batch equals its sequences alone, and any number of threads") {
  for (const Variant& variant : variants()) {
    Tensor first;
    for (int threads : {1, 2}) {
      Context ctx;
      ctx.threads = threads;
      Made m(ctx, 16, variant.options);
      CAPTURE(m.layer->options().str());
      Batch batch;
      batch.seq_starts = {0, 1, 71, 71, 200};
      batch.offsets = {0, 0, 0, 0};
      const Tensor x = testing::random_tensor(ctx, {200, 16}, "x");
      const Tensor y = m.layer->forward(ctx, x, batch, {});
      if (threads == 1) first = y;
      CHECK(same_bits(first, y));
      for (int64_t s = 0; s < batch.sequences(); ++s) {
        const int64_t begin = batch.seq_starts[s], n = batch.length(s);
        if (n == 0) continue;
        const Tensor alone = m.layer->forward(ctx, x.narrow(0, begin, n), Batch::uniform(1, n), {});
        CHECK(testing::worst_error(y.narrow(0, begin, n), alone) <= 1e-6);
      }
    }
  }
}

TEST_CASE("gqa: windows keep the meta tokens visible") {
  for (const int64_t meta : {3, 70}) {
    for (const char* options : {"window=5", "kv_heads=1,window=66,sinks=true,qk_norm=head"}) {
      for (const std::string& failure : testing::check_mixer(
               "gqa", {.options = options, .meta_tokens = meta, .constant_state = false})) {
        FAIL_CHECK(failure);
      }
    }
  }
}

TEST_CASE("gqa: heads by default, canonical options, and errors that name both values") {
  Context ctx;
  CHECK(Made(ctx, 192, {{"heads", "3"}})["q_proj.weight"].shape() == (Shape{192, 192}));
  CHECK(Made(ctx, 32, {})["q_proj.weight"].shape() == (Shape{32, 32}));
  CHECK(Made(ctx, 32, {{"kv_heads", "2"}, {"gate", "true"}})["q_proj.weight"].shape() ==
        (Shape{64, 32}));
  CHECK(Made(ctx, 32, {{"kv_heads", "2"}})["k_proj.weight"].shape() == (Shape{16, 32}));
  CHECK(Made(ctx, 32, {{"gate", "false"}, {"window", "64"}, {"kv_heads", "2"}})
            .layer->options()
            .str() == "kv_heads=2,window=64");
  const auto error = [&](const Keys& keys) -> std::string {
    try {
      Made(ctx, 32, keys);
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::kUsage);
      return e.what();
    }
    return "";
  };
  CHECK(error({{"kv_heads", "3"}}) == "gqa: heads=4 is not a multiple of kv_heads=3");
  CHECK(error({{"heads", "5"}}).find("heads=5 does not divide the width 32") != std::string::npos);
  CHECK(error({{"window", "-1"}}) == "gqa: window=-1 is negative; 0 is no window");
  CHECK(error({{"qk_norm", "all"}}) == "gqa: qk_norm=all is none of none, head, full");
  CHECK(error({{"qk_norm", "full"}, {"gate", "true"}}).find("qk_norm=full") != std::string::npos);
  CHECK(error({{"bias", "q"}}) == "gqa: bias=q is none of none, qkv, qkvo");
  CHECK(error({{"chunk", "-1"}}) == "gqa: chunk=-1 is negative; 0 is no chunks");
  CHECK(error({{"out_scale", "0"}}) == "gqa: out_scale=0 is not positive");
  CHECK(error({{"scale", "-1"}}) == "gqa: scale=-1 is negative; 0 is head_dim^-0.5");
  CHECK(error({{"softcap", "-1"}}) == "gqa: softcap=-1 is negative; 0 is no cap");
  CHECK(error({{"rope", "false"}, {"rope_scaling", "linear:2"}}).find("rope=false") !=
        std::string::npos);
  CHECK(error({{"rope_scaling", "yarn:4"}}) ==
        "gqa: rope_scaling=yarn:4: yarn has 1 fields, expected 6 "
        "(F:ORIGINAL:FAST:SLOW:TRUNCATE:ATTENTION_FACTOR)");
  CHECK(error({{"rotary", "0.4"}}) ==
        "gqa: rotary=0.4 of head_dim=8 gives 3 channels to turn, which come in pairs");
  CHECK(error({{"rotary", "1.5"}}) == "gqa: rotary=1.5 is not in (0, 1]");
  CHECK(error({{"rope", "false"}, {"rope_theta", "5"}}).find("rope=false") != std::string::npos);
  CHECK(error({{"one_plus", "true"}}).find("qk_norm=none") != std::string::npos);
}

}  // namespace braid
