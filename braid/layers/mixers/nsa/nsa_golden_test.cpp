// fla's form of native sparse attention against its published reference.

#include "braid/testing/golden_mixer.h"

namespace braid::testing {
namespace {

void run(const GoldenLayer& g) {
  const std::string block = g.file().metadata("block");
  const Options options = golden_options({{"heads", g.file().metadata("heads")},
                                          {"kv_heads", g.file().metadata("kv_heads")},
                                          {"head_dim", g.file().metadata("head_dim")},
                                          {"compress", "mean"},
                                          {"compress_block", block},
                                          {"compress_stride", block},
                                          {"block", block},
                                          {"top_n", g.file().metadata("top_n")},
                                          {"window", g.file().metadata("window")}});
  LayerEnv env;
  env.width = g.integer("hidden_size");
  GoldenMixer m(g.ctx(), "nsa", options, env);
  check_golden_training(g, m, "attn");
  check_golden_continuation(
      g, *m.layer, [](const GoldenStates&) {}, [](const GoldenStates&) {});
}

const GoldenKind kKind("fla nsa", run);

}  // namespace
}  // namespace braid::testing
