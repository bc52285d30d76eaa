#pragma once
// What the mixers' golden tests share. Include from tests only.

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "braid/layers/mixer.h"
#include "braid/state/conv_state.h"
#include "braid/state/group_state.h"
#include "braid/state/matrix_state.h"
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

using GoldenStates = std::vector<std::unique_ptr<LayerState>>;

// The recurrent states [sequences, HV, K, V].
inline void check_golden_matrices(const GoldenStates& states, const Tensor& want,
                                  const char* what) {
  for (size_t s = 0; s < states.size(); ++s) {
    auto* group = dynamic_cast<GroupState*>(states[s].get());
    const auto& m =
        dynamic_cast<const MatrixState&>(group != nullptr ? group->member(0) : *states[s]);
    check_golden(what, m.matrix(), want.select(0, static_cast<int64_t>(s)));
  }
}

// The windows of member i, channel-major in the file: [sequences, C, Kc - 1].
inline void check_golden_windows(const GoldenStates& states, size_t i, const Tensor& want,
                                 const char* what) {
  for (size_t s = 0; s < states.size(); ++s) {
    auto& member = dynamic_cast<GroupState&>(*states[s]).member(i);
    const Tensor& w = dynamic_cast<const ConvState&>(member).window();
    const Tensor sequence = want.select(0, static_cast<int64_t>(s));
    std::vector<double> turned;
    for (int64_t t = 0; t < w.size(0); ++t) {
      for (int64_t c = 0; c < w.size(1); ++c) turned.push_back(sequence.data()[c * w.size(0) + t]);
    }
    INFO(what);
    CHECK(worst_error(w, turned) <= kGoldenTolerance);
  }
}

// Runs to the mark with states, then on. `at_mark` sees the states in between, `at_end` after.
template <typename F, typename G>
void check_golden_continuation(const GoldenLayer& g, Layer& layer, F at_mark, G at_end) {
  const Context& ctx = g.ctx();
  const int64_t sequences = g.integer("B"), length = g.integer("T"), mark = g.integer("mark");
  GoldenStates states;
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
