// Qwen3-Next's Gated DeltaNet layer, stored interleaved (Qwen3-Next) and apart (Qwen3.5).

#include "braid/layers/mixers/gdn/qwen3_next_layout.h"
#include "braid/testing/golden_mixer.h"

namespace braid::testing {
namespace {

const std::string kPath = "model.layers.0.linear_attn";

void copy(const Tensor& from, const Tensor& into) {
  REQUIRE(from.shape() == into.shape());
  std::copy_n(from.data(), from.count(), into.data());
}

// What stands under `prefix` ("weight." or "grad."), in the layer's own layout.
std::map<std::string, Tensor> stored(const GoldenLayer& g, const HeadSizes& n,
                                     const std::string& prefix) {
  const std::string path = prefix + kPath + ".";
  const GdnQkvz qkvz = split_qwen3_next_qkvz(g.ctx(), n, g.tensor(path + "in_proj_qkvz.weight"));
  const GdnBa ba = split_qwen3_next_ba(g.ctx(), n, g.tensor(path + "in_proj_ba.weight"));
  std::map<std::string, Tensor> all = {{"in_proj_qkv.weight", qkvz.qkv},
                                       {"in_proj_z.weight", qkvz.z},
                                       {"in_proj_b.weight", ba.b},
                                       {"in_proj_a.weight", ba.a}};
  for (const char* name : {"conv1d.weight", "A_log", "dt_bias", "norm.weight", "out_proj.weight"}) {
    all[name] = g.tensor(path + name);
  }
  return all;
}

void run(const GoldenLayer& g) {
  const HeadSizes n{g.integer("linear_num_key_heads"), g.integer("linear_num_value_heads"),
                    g.integer("linear_key_head_dim"), g.integer("linear_value_head_dim")};
  LayerEnv env;
  env.width = g.integer("hidden_size");
  env.norm_eps = g.number("rms_norm_eps");
  GoldenMixer m(g.ctx(), "gdn",
                golden_options({{"heads", std::to_string(n.heads)},
                                {"head_dim", std::to_string(n.key_dim)},
                                {"v_heads", std::to_string(n.value_heads)},
                                {"value_dim", std::to_string(n.value_dim)},
                                {"conv", g.file().metadata("linear_conv_kernel_dim")}}),
                env);
  const auto weights = stored(g, n, "weight."), grads = stored(g, n, "grad.");
  for (const auto& [name, value] : weights) {
    // The file holds the projections in both layouts.
    if (g.file().find("split." + name) != nullptr)
      check_golden(name, value, g.tensor("split." + name));
    Parameter* p = m.params.find(name);
    REQUIRE(p != nullptr);
    copy(value, p->value);
  }
  REQUIRE(weights.size() == m.params.size());
  const LayerRun run = run_with_gradients(g.ctx(), *m.layer, m.params, g.tokens("hidden_states"),
                                          g.tokens("d_out"), g.batch());
  check_golden("out", run.out, g.tokens("out"));
  check_golden("grad.hidden_states", run.grad_input, g.tokens("grad.hidden_states"));
  for (const Parameter& p : m.params) check_golden("grad of " + p.name, p.grad, grads.at(p.name));
  check_golden_continuation(
      g, *m.layer,
      [&](const GoldenStates& states) {
        check_golden_matrices(states, g.tensor("recurrent_state_at_mark"), "state at mark");
        check_golden_windows(states, 1, g.tensor("conv_state_at_mark"), "window at mark");
      },
      [&](const GoldenStates& states) {
        check_golden_matrices(states, g.tensor("recurrent_state_final"), "final state");
      });
}

const GoldenKind kind("qwen3_next linear_attn (Gated DeltaNet)", run);

}  // namespace
}  // namespace braid::testing
