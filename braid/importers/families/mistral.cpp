// Mistral 7B to Small 3.x (inside mistral3 too): Llama with an optional window.

#include "braid/importers/common.h"

namespace braid {
namespace {

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.max_positions = 131072}, m);
  c.require_text("hidden_act", {"silu"});
  GqaSettings gqa;
  read_heads(c, {.kv_heads = 8}, m, gqa);
  gqa.rope = read_rope(c, {.max_positions = 131072});
  c.require_boolean("attention_bias", false);
  c.require_boolean("mlp_bias", false);
  gqa.window = c.explicit_null("sliding_window") ? 0 : c.integer("sliding_window", 4096);
  const std::vector<std::string> types =
      read_layer_types(c, m.layers, {"full_attention", "sliding_attention"});
  const LayerSpec channel = swiglu_layer(c.integer("intermediate_size", 14336));
  const auto mixer = [&](int64_t i) {
    GqaSettings own = gqa;
    if (!types.empty() && types[static_cast<size_t>(i)] == "full_attention") own.window = 0;
    return gqa_layer(own, m.settings);
  };
  set_llama_form(m, mixer, channel);
  return m;
}

}  // namespace

Family family_mistral() { return {"mistral", {"mistral"}, read}; }

}  // namespace braid
