// Kimi Linear's MLA, which has no positions, against its published implementation.

#include "braid/testing/golden_mixer.h"

namespace braid::testing {
namespace {

void run(const GoldenLayer& g) {
  const Options options =
      golden_options({{"heads", g.file().metadata("num_attention_heads")},
                      {"kv_lora_rank", g.file().metadata("kv_lora_rank")},
                      {"qk_nope_head_dim", g.file().metadata("qk_nope_head_dim")},
                      {"qk_rope_head_dim", g.file().metadata("qk_rope_head_dim")},
                      {"v_head_dim", g.file().metadata("v_head_dim")},
                      {"rope", "false"},
                      {"latent_eps", g.file().metadata("kv_a_layernorm_eps")}});
  LayerEnv env;
  env.width = g.integer("hidden_size");
  GoldenMixer m(g.ctx(), "mla", options, env);
  check_golden_training(g, m, "model.layers.3.self_attn");
  // Token by token over the latents: the absorbed form.
  GoldenStates states;
  std::vector<LayerState*> pointers;
  const int64_t sequences = g.integer("B"), length = g.integer("T");
  for (int64_t s = 0; s < sequences; ++s) {
    states.push_back(m.layer->make_state(g.ctx()));
    pointers.push_back(states.back().get());
  }
  for (int64_t t = 0; t < length; ++t) {
    Batch batch = Batch::uniform(sequences, 1);
    batch.offsets.assign(static_cast<size_t>(sequences), t);
    const Tensor x = sequence_rows(g.ctx(), g.tokens("hidden_states"), sequences, t, t + 1);
    check_golden("out, absorbed", m.layer->forward(g.ctx(), x, batch, pointers),
                 sequence_rows(g.ctx(), g.tokens("out"), sequences, t, t + 1));
  }
}

const GoldenKind kKind("kimi_linear MLA (NoPE)", run);

}  // namespace
}  // namespace braid::testing
