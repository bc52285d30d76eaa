#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "braid/layers/mixer.h"
#include "braid/layers/mixers/gqa/gqa_ref.h"
#include "braid/ops/tape.h"
#include "braid/state/kv_state.h"
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

const std::vector<Variant>& variants() {
  static const std::vector<Variant> all = {
      {{}, {16, 2, 2, 8, 8, false, 1e4, 0, false, false, false, 1e-6}},
      {{{"heads", "4"}, {"kv_heads", "2"}, {"head_dim", "6"}, {"rope", "false"}, {"window", "3"}},
       {16, 4, 2, 6, 0, false, 1e4, 3, false, false, false, 1e-6}},
      {{{"heads", "2"}, {"kv_heads", "1"}, {"gate", "true"}, {"rope", "false"}},
       {16, 2, 1, 8, 0, false, 1e4, 0, false, false, true, 1e-6}},
      {{{"kv_heads", "1"},
        {"gate", "true"},
        {"qk_norm", "head"},
        {"one_plus", "true"},
        {"rotary", "0.5"},
        {"rope_theta", "100"}},
       {16, 2, 1, 8, 4, false, 100, 0, true, true, true, 1e-6}},
      {{{"interleaved", "true"}, {"qk_norm", "head"}, {"window", "5"}},
       {16, 2, 2, 8, 8, true, 1e4, 5, true, false, false, 1e-6}}};
  return all;
}

}  // namespace

TEST_CASE("gqa equals its definition, values and gradients") {
  for (const Variant& variant : variants()) {
    Context ctx;
    Made m(ctx, 16, variant.options);
    CAPTURE(m.layer->options().str());
    const int64_t tokens = 7, width = 16;
    const GqaShape& s = variant.shape;
    m.params.allocate_grads(ctx);
    Tensor x = testing::random_tensor(ctx, {tokens, width}, "x");
    const Tensor up = testing::random_tensor(ctx, {tokens, width}, "up");
    Tape tape;
    Context train = ctx;
    train.tape = &tape;
    tape.watch(x);
    const Tensor y = m.layer->forward(train, x, Batch::uniform(1, tokens), {});
    std::vector<double> all = testing::values(x);  // x, q, k, v, o, q_norm, k_norm
    for (const Parameter& p : m.params) {
      const auto v = testing::values(p.value);
      all.insert(all.end(), v.begin(), v.end());
    }
    const auto run = [&](std::span<const Complex> in) {
      const Complex* q = in.data() + tokens * width;
      const Complex* k = q + s.heads * s.head_dim * (s.gate ? 2 : 1) * width;
      const Complex* v = k + s.kv_heads * s.head_dim * width;
      const Complex* o = v + s.kv_heads * s.head_dim * width;
      const Complex* norms = o + s.heads * s.head_dim * width;
      const GqaRef<Complex> ref(s, {q, k, v, o, norms, norms + s.head_dim});
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
  CHECK(error({{"qk_norm", "full"}}) == "gqa: qk_norm=full is neither none nor head");
  CHECK(error({{"rotary", "0.4"}}) ==
        "gqa: rotary=0.4 of head_dim=8 gives 3 channels to turn, which come in pairs");
  CHECK(error({{"rotary", "1.5"}}) == "gqa: rotary=1.5 is not in (0, 1]");
  CHECK(error({{"rope", "false"}, {"rope_theta", "5"}}).find("rope=false") != std::string::npos);
  CHECK(error({{"one_plus", "true"}}).find("qk_norm=none") != std::string::npos);
}

}  // namespace braid
