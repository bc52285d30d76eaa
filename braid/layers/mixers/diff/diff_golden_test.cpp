// Differential attention against its authors' module.

#include "braid/testing/golden_mixer.h"

namespace braid::testing {
namespace {

void run(const GoldenLayer& g) {
  const Options options = golden_options({{"heads", g.file().metadata("heads")},
                                          {"kv_heads", g.file().metadata("kv_heads")},
                                          {"interleaved", "true"},
                                          {"lambda_init", g.file().metadata("lambda_init")}});
  LayerEnv env;
  env.width = g.integer("hidden_size");
  GoldenMixer m(g.ctx(), "diff", options, env);
  check_golden_training(g, m, "attn");
  check_golden_continuation(
      g, *m.layer, [](const GoldenStates&) {}, [](const GoldenStates&) {});
}

const GoldenKind kKind("differential attention", run);

}  // namespace
}  // namespace braid::testing
