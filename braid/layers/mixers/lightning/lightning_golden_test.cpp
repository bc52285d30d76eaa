// MiniMax-01's lightning attention layer.

#include "braid/layers/mixers/lightning/lightning_ref.h"
#include "braid/testing/golden_mixer.h"

namespace braid::testing {
namespace {

void run(const GoldenLayer& g) {
  LayerEnv env;
  env.width = g.integer("hidden_size");
  const std::string layer = g.file().metadata("layer_idx");
  GoldenMixer m(g.ctx(), "lightning",
                golden_options({{"heads", g.file().metadata("num_attention_heads")},
                                {"head_dim", g.file().metadata("head_dim")},
                                {"norm_eps", g.file().metadata("norm_eps")},
                                {"layer", layer},
                                {"layers", g.file().metadata("num_hidden_layers")}}),
                env);
  const std::vector<double> slopes = lightning_slopes(
      g.integer("num_attention_heads"), g.integer("layer_idx"), g.integer("num_hidden_layers"));
  CHECK(worst_error(slopes, values(g.tensor("mid.slope"))) <= 1e-6);
  check_golden_training(g, m, "model.layers." + layer + ".self_attn");
  check_golden_continuation(
      g, *m.layer,
      [&](const GoldenStates& states) {
        check_golden_matrices(states, g.tensor("recurrent_state_at_mark"), "state at mark");
      },
      [&](const GoldenStates& states) {
        check_golden_matrices(states, g.tensor("recurrent_state_final"), "final state");
      });
}

const GoldenKind kind("MiniMax-01 lightning attention", run);

}  // namespace
}  // namespace braid::testing
