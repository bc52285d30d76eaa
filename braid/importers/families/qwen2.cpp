// Qwen2 and Qwen2.5: Llama with biases on q, k and v.

#include "braid/importers/common.h"

namespace braid {
namespace {

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.vocab = 151936, .max_positions = 32768}, m);
  c.require_text("hidden_act", {"silu"});
  GqaSettings gqa;
  read_heads(c, {.kv_heads = 32}, m, gqa);
  gqa.rope = read_rope(c, {.max_positions = 32768});
  gqa.bias = "qkv";
  c.require_boolean("use_mrope", false);
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

Family family_qwen2() { return {"qwen2", {"qwen2"}, read}; }

}  // namespace braid
