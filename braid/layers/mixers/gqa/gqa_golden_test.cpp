// Qwen3-Next's gated attention against its published implementation.

#include "braid/testing/golden_mixer.h"

namespace braid::testing {
namespace {

void run(const GoldenLayer& g) {
  const Options options = golden_options({{"heads", g.file().metadata("num_attention_heads")},
                                          {"kv_heads", g.file().metadata("num_key_value_heads")},
                                          {"head_dim", g.file().metadata("head_dim")},
                                          {"rotary", g.file().metadata("partial_rotary_factor")},
                                          {"rope_theta", g.file().metadata("rope_theta")},
                                          {"qk_norm", "head"},
                                          {"one_plus", "true"},
                                          {"gate", "true"}});
  LayerEnv env;
  env.width = g.integer("hidden_size");
  env.norm_eps = g.number("rms_norm_eps");
  GoldenMixer m(g.ctx(), "gqa", options, env);
  check_golden_training(g, m, "model.layers.3.self_attn");
}

const GoldenKind kKind("qwen3_next gated attention", run);

}  // namespace
}  // namespace braid::testing
