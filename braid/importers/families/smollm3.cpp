// SmolLM3: every fourth layer without positions. no_rope_layers holds 1 for a layer WITH rope.

#include "braid/base/format.h"
#include "braid/importers/common.h"

namespace braid {
namespace {

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(
      c, {.width = 2048, .layers = 36, .vocab = 128256, .max_positions = 32768, .tied = true}, m);
  c.require_text("hidden_act", {"silu"});
  GqaSettings gqa;
  read_heads(c, {.heads = 16, .kv_heads = 4}, m, gqa);
  const RopeSettings rope = read_rope(c, {.theta = 2e6, .max_positions = 32768});
  gqa.bias = c.boolean("attention_bias", false) ? "qkvo" : "none";
  const std::vector<int64_t> uses = c.integers("no_rope_layers");
  const int64_t interval = c.integer("no_rope_layer_interval", 4);
  if (!uses.empty() && std::ssize(uses) < m.layers)
    c.fail(format("no_rope_layers has {} entries for {} layers", uses.size(), m.layers));
  const bool slides = c.boolean("use_sliding_window", false);
  const int64_t window = c.integer("sliding_window", 0);
  // The class slides, if at all, on the layers without rope, whatever max_window_layers says.
  if (slides && c.has("max_window_layers")) c.fail("max_window_layers is given and not read");
  c.ignore({"max_window_layers"});
  const std::vector<std::string> types =
      read_layer_types(c, m.layers, {"full_attention", "sliding_attention"});
  const LayerSpec channel =
      swiglu_layer(c.integer("intermediate_size", 11008), "silu", c.boolean("mlp_bias", false));
  const auto mixer = [&](int64_t i) {
    const bool turns =
        uses.empty() ? interval == 0 || (i + 1) % interval != 0 : uses[static_cast<size_t>(i)] != 0;
    gqa.rope = rope;
    gqa.rope.on = turns;
    const bool sliding =
        types.empty() ? !turns : types[static_cast<size_t>(i)] == "sliding_attention";
    gqa.window = slides && sliding ? window : 0;
    return gqa_layer(gqa, m.settings);
  };
  set_llama_form(m, mixer, channel);
  return m;
}

}  // namespace

Family family_smollm3() { return {"smollm3", {"smollm3"}, read}; }

}  // namespace braid
