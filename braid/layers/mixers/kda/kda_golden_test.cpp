// Kimi's KDA layer against its published implementation.

#include "braid/testing/golden_mixer.h"

namespace braid::testing {
namespace {

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

void run(const GoldenLayer& g) {
  GoldenMixer m = make(g, "");
  check_golden_training(g, m, kPath);
  check_golden_continuation(
      g, *m.layer,
      [&](const GoldenStates& states) {
        check_golden_matrices(states, g.tensor("recurrent_state_at_mark"), "state at mark");
        const char* names[] = {"q_conv_state_at_mark", "k_conv_state_at_mark",
                               "v_conv_state_at_mark"};
        for (size_t i = 0; i < 3; ++i)
          check_golden_windows(states, i + 1, g.tensor(names[i]), names[i]);
      },
      [&](const GoldenStates& states) {
        check_golden_matrices(states, g.tensor("recurrent_state_final"), "final state");
      });
  GoldenMixer bounded = make(g, g.file().metadata("gate_lower_bound_for_second_output"));
  g.fill(bounded.params, kPath);
  const Tensor y = bounded.layer->forward(g.ctx(), g.tokens("hidden_states"), g.batch(), {});
  check_golden("out_lower_bound", y, g.tokens("out_lower_bound"));
}

const GoldenKind kind("kimi_linear KDA", run);

}  // namespace
}  // namespace braid::testing
