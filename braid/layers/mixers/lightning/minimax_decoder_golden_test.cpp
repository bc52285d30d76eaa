// A whole MiniMax-01 decoder layer: lightning and experts in its postnorm wiring, where the
// residual branch is the normed value.

#include <cstring>

#include "braid/layers/channel.h"
#include "braid/layers/residual.h"
#include "braid/ops/norm.h"
#include "braid/testing/golden_mixer.h"

namespace braid::testing {
namespace {

struct Decoder {
  const GoldenLayer& g;
  std::string path = "model.layers." + g.file().metadata("layer_idx") + ".";
  LayerEnv env;
  ParameterSet norms, experts;
  std::unique_ptr<GoldenMixer> mixer;
  std::unique_ptr<Layer> moe;
  Parameter *input_norm, *post_norm;
  std::unique_ptr<Residual> residual;

  explicit Decoder(const GoldenLayer& golden) : g(golden) {
    env.width = g.integer("hidden_size");
    const auto text = [&](const char* key) { return g.file().metadata(key); };
    mixer = std::make_unique<GoldenMixer>(g.ctx(), "lightning",
                                          golden_options({{"heads", text("num_attention_heads")},
                                                          {"head_dim", text("head_dim")},
                                                          {"norm_eps", text("lightning_norm_eps")},
                                                          {"layer", text("layer_idx")},
                                                          {"layers", text("num_hidden_layers")}}),
                                          env);
    ParamBuilder builder(g.ctx(), experts, 0);
    moe = find_channel("moe")->make(golden_options({{"experts", text("num_local_experts")},
                                                    {"top_k", text("num_experts_per_tok")},
                                                    {"ffn", text("intermediate_size")},
                                                    {"balance", "none"}}),
                                    env, builder);
    ParamBuilder norm_builder(g.ctx(), norms, 0);
    residual = find_residual("normed")->make(
        golden_options({{"alpha", text("alpha")}, {"beta", text("beta")}}), env, 2, norm_builder);
    input_norm = &norm_builder.vector("input_layernorm.weight", {env.width}, Init::ones());
    post_norm = &norm_builder.vector("post_attention_layernorm.weight", {env.width}, Init::ones());
  }

  // The file's w1, w3 (gate, up) and w2 (down) of all experts in moe's fused layout.
  Tensor expert_tensor(const std::string& what, const Parameter& p) const {
    const std::string prefix = what + path + "block_sparse_moe.";
    if (p.name == "gate.weight") return g.tensor(prefix + p.name);
    const bool down = p.name == "experts.down_proj";
    Tensor fused = Tensor::empty(g.ctx(), p.value.shape());
    float* into = fused.data();
    for (int64_t e = 0; e < g.integer("num_local_experts"); ++e) {
      for (const char* w : down ? std::vector{"w2"} : std::vector{"w1", "w3"}) {
        const Tensor t = g.tensor(prefix + "experts." + std::to_string(e) + "." + w + ".weight");
        std::memcpy(into, t.data(), t.bytes());
        into += t.count();
      }
    }
    REQUIRE(into == fused.data() + fused.count());
    return fused;
  }

  Tensor forward(const Context& ctx, const Tensor& x) {
    const double eps = g.number("rms_norm_eps");
    const auto run = residual->begin(ctx, x);
    const auto sublayer = [&](int64_t index, Parameter& norm, Layer& layer) {
      const Tensor n = rms_norm(ctx, run->input(ctx, index), norm, eps);
      run->normed(ctx, index, n);
      run->output(ctx, index, layer.forward(ctx, n, g.batch(), {}));
    };
    sublayer(0, *input_norm, *mixer->layer);
    sublayer(1, *post_norm, *moe);
    return run->finish(ctx);
  }
};

void run(const GoldenLayer& g) {
  Decoder d(g);
  const auto mixer_names = g.fill(d.mixer->params, d.path + "self_attn");
  for (Parameter& p : d.experts) p.value = d.expert_tensor("weight.", p);
  for (Parameter& p : d.norms) p.value = g.tensor("weight." + d.path + p.name);
  for (ParameterSet* set : {&d.mixer->params, &d.experts, &d.norms}) set->allocate_grads(g.ctx());
  Tape tape;
  Context train = g.ctx();
  train.tape = &tape;
  Tensor x = g.tokens("hidden_states");
  tape.watch(x);
  const Tensor y = d.forward(train, x);
  check_golden("out", y, g.tokens("out"));
  tape.backward(g.ctx(), y, g.tokens("d_out"));
  check_golden("grad.hidden_states", tape.grad(x), g.tokens("grad.hidden_states"));
  for (const Parameter& p : d.mixer->params)
    check_golden(p.name, p.grad, g.tensor("grad." + mixer_names.at(p.name)));
  for (const Parameter& p : d.experts) check_golden(p.name, p.grad, d.expert_tensor("grad.", p));
  for (const Parameter& p : d.norms)
    check_golden(p.name, p.grad, g.tensor("grad." + d.path + p.name));
}

const GoldenKind kind("MiniMax-01 decoder layer (postnorm, lightning, MoE)", run);

}  // namespace
}  // namespace braid::testing
