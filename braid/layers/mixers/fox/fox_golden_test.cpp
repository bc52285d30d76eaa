// Forgetting attention against fla's published reference.

#include "braid/testing/golden_mixer.h"

namespace braid::testing {
namespace {

void run(const GoldenLayer& g) {
  const Options options = golden_options({{"heads", g.file().metadata("heads")},
                                          {"kv_heads", g.file().metadata("kv_heads")},
                                          {"head_dim", g.file().metadata("head_dim")},
                                          {"window", g.file().metadata("window")}});
  LayerEnv env;
  env.width = g.integer("hidden_size");
  GoldenMixer m(g.ctx(), "fox", options, env);
  check_golden_training(g, m, "attn");
  check_golden_continuation(
      g, *m.layer, [](const GoldenStates&) {}, [](const GoldenStates&) {});
}

const GoldenKind kKind("fla forgetting attention", run);

}  // namespace
}  // namespace braid::testing
