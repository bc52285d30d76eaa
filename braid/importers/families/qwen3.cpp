// Qwen3, dense: Llama's form with an RMSNorm on every head of q and k.

#include "braid/importers/common.h"

namespace braid {
namespace {

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.vocab = 151936, .max_positions = 32768}, m);
  c.require_text("hidden_act", {"silu"});
  GqaSettings gqa;
  read_heads(c, {.kv_heads = 32, .head_dim = 128}, m, gqa);
  gqa.rope = read_rope(c, {.max_positions = 32768});
  gqa.qk_norm = "head";
  gqa.bias = c.boolean("attention_bias", false) ? "qkvo" : "none";
  const std::vector<int64_t> windows = qwen_windows(c, m.layers);
  const LayerSpec channel = swiglu_layer(c.integer("intermediate_size", 22016));
  const auto mixer = [&](int64_t i) {
    gqa.window = windows[static_cast<size_t>(i)];
    return gqa_layer(gqa, m.settings);
  };
  set_llama_form(m, mixer, channel);
  return m;
}

}  // namespace

Family family_qwen3() { return {"qwen3", {"qwen3"}, read}; }

}  // namespace braid
