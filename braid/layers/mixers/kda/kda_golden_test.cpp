// Kimi's KDA layer against its published implementation.

#include "braid/state/conv_state.h"
#include "braid/state/group_state.h"
#include "braid/state/matrix_state.h"
#include "braid/testing/golden_mixer.h"

namespace braid::testing {
namespace {

using States = std::vector<std::unique_ptr<LayerState>>;
const char kPath[] = "model.layers.0.self_attn";

GoldenMixer make(const GoldenLayer& g, const std::string& lower_bound) {
  Options options = golden_options({{"heads", g.file().metadata("num_heads")},
                                    {"head_dim", g.file().metadata("head_dim")},
                                    {"conv", g.file().metadata("short_conv_kernel_size")}});
  if (!lower_bound.empty()) options.set("gate_lower_bound", lower_bound);
  LayerEnv env;
  env.width = g.integer("hidden_size");
  env.norm_eps = g.number("rms_norm_eps");
  return GoldenMixer(g.ctx(), "kda", options, env);
}

LayerState& member(const States& states, size_t s, size_t i) {
  return dynamic_cast<GroupState&>(*states[s]).member(i);
}

void check_matrices(const States& states, const Tensor& want, const char* what) {
  for (size_t s = 0; s < states.size(); ++s) {
    const auto& m = dynamic_cast<MatrixState&>(member(states, s, 0));
    check_golden(what, m.matrix(), want.select(0, static_cast<int64_t>(s)));
  }
}

// The file keeps windows channel-major, [C, Kc - 1].
void check_windows(const States& states, size_t i, const Tensor& want, const char* what) {
  for (size_t s = 0; s < states.size(); ++s) {
    const Tensor& w = dynamic_cast<ConvState&>(member(states, s, i)).window();
    const Tensor sequence = want.select(0, static_cast<int64_t>(s));
    std::vector<double> turned;
    for (int64_t t = 0; t < w.size(0); ++t) {
      for (int64_t c = 0; c < w.size(1); ++c) turned.push_back(sequence.data()[c * w.size(0) + t]);
    }
    INFO(what);
    CHECK(worst_error(w, turned) <= kGoldenTolerance);
  }
}

void run(const GoldenLayer& g) {
  GoldenMixer m = make(g, "");
  check_golden_training(g, m, kPath);
  check_golden_continuation(
      g, *m.layer,
      [&](const States& states) {
        check_matrices(states, g.tensor("recurrent_state_at_mark"), "state at mark");
        const char* names[] = {"q_conv_state_at_mark", "k_conv_state_at_mark",
                               "v_conv_state_at_mark"};
        for (size_t i = 0; i < 3; ++i) check_windows(states, i + 1, g.tensor(names[i]), names[i]);
      },
      [&](const States& states) {
        check_matrices(states, g.tensor("recurrent_state_final"), "final state");
      });
  GoldenMixer bounded = make(g, g.file().metadata("gate_lower_bound_for_second_output"));
  g.fill(bounded.params, kPath);
  const Tensor y = bounded.layer->forward(g.ctx(), g.tokens("hidden_states"), g.batch(), {});
  check_golden("out_lower_bound", y, g.tokens("out_lower_bound"));
}

const GoldenKind kind("kimi_linear KDA", run);

}  // namespace
}  // namespace braid::testing
