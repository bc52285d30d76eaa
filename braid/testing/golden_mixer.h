#pragma once
// What the mixers' golden tests share. Include from tests only.

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "braid/layers/mixer.h"
#include "braid/testing/golden_layer.h"
#include "braid/testing/numeric.h"

namespace braid::testing {

constexpr double kGoldenTolerance = 1e-5;  // specs/linear-recurrences.md section 11

inline void check_golden(const std::string& what, const Tensor& got, const Tensor& want) {
  const double error = worst_error(got, want);
  INFO(what, " differs by ", error, " of its largest value");
  CHECK(error <= kGoldenTolerance);
}

// A mixer made for a golden file, with its parameters.
struct GoldenMixer {
  ParameterSet params;
  std::unique_ptr<Layer> layer;
  GoldenMixer(const Context& ctx, const char* name, const Options& options, const LayerEnv& env) {
    ParamBuilder builder(ctx, params, 0);
    layer = find_mixer(name)->make(options, env, builder);
  }
};

inline Options golden_options(std::initializer_list<std::pair<const char*, std::string>> items) {
  Options options;
  for (const auto& [key, value] : items) options.set(key, value);
  return options;
}

// Rows [begin, end) of every sequence of x [B * T, ...] laid end to end.
inline Tensor sequence_rows(const Context& ctx, const Tensor& x, int64_t sequences, int64_t begin,
                            int64_t end) {
  const int64_t length = x.size(0) / sequences, width = x.count() / x.size(0);
  Tensor y = Tensor::empty(ctx, {sequences * (end - begin), width});
  for (int64_t s = 0; s < sequences; ++s) {
    std::copy_n(x.data() + (s * length + begin) * width, (end - begin) * width,
                y.data() + s * (end - begin) * width);
  }
  return y;
}

// out and all gradients of a mixer whose parameters are stored under `path`.
inline void check_golden_training(const GoldenLayer& g, GoldenMixer& m, const std::string& path) {
  const auto names = g.fill(m.params, path);
  const LayerRun run = run_with_gradients(g.ctx(), *m.layer, m.params, g.tokens("hidden_states"),
                                          g.tokens("d_out"), g.batch());
  check_golden("out", run.out, g.tokens("out"));
  check_golden("grad.hidden_states", run.grad_input, g.tokens("grad.hidden_states"));
  for (const Parameter& p : m.params) {
    check_golden("grad." + names.at(p.name), p.grad, g.tensor("grad." + names.at(p.name)));
  }
}

// Runs to the mark with states, then on. `at_mark` sees the states in between, `at_end` after.
template <typename F, typename G>
void check_golden_continuation(const GoldenLayer& g, Layer& layer, F at_mark, G at_end) {
  const Context& ctx = g.ctx();
  const int64_t sequences = g.integer("B"), length = g.integer("T"), mark = g.integer("mark");
  std::vector<std::unique_ptr<LayerState>> states;
  std::vector<LayerState*> pointers;
  for (int64_t s = 0; s < sequences; ++s) {
    states.push_back(layer.make_state(ctx));
    pointers.push_back(states.back().get());
  }
  const Tensor x = g.tokens("hidden_states"), want = g.tokens("out");
  const auto run = [&](int64_t begin, int64_t end) {
    Batch batch = Batch::uniform(sequences, end - begin);
    batch.offsets.assign(static_cast<size_t>(sequences), begin);
    const Tensor y =
        layer.forward(ctx, sequence_rows(ctx, x, sequences, begin, end), batch, pointers);
    check_golden("out", y, sequence_rows(ctx, want, sequences, begin, end));
  };
  run(0, mark);
  at_mark(states);
  run(mark, length);
  at_end(states);
}

}  // namespace braid::testing
