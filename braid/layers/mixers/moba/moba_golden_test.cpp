// Mixture of block attention against its authors' reference.

#include "braid/testing/golden_mixer.h"

namespace braid::testing {
namespace {

void run(const GoldenLayer& g) {
  const Options options = golden_options({{"heads", g.file().metadata("heads")},
                                          {"head_dim", g.file().metadata("head_dim")},
                                          {"block", g.file().metadata("block")},
                                          {"top_k", g.file().metadata("top_k")}});
  LayerEnv env;
  env.width = g.integer("hidden_size");
  GoldenMixer m(g.ctx(), "moba", options, env);
  check_golden_training(g, m, "attn");
  check_golden_continuation(
      g, *m.layer, [](const GoldenStates&) {}, [](const GoldenStates&) {});
}

const GoldenKind kKind("moba", run);

}  // namespace
}  // namespace braid::testing
