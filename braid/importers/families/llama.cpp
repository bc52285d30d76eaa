// Llama 3.x (and what copies it): grouped attention, half-rotate RoPE, gated feed-forward.

#include "braid/importers/common.h"

namespace braid {
namespace {

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {}, m);
  c.require_text("hidden_act", {"silu", "swish"});
  c.require_boolean("rope_interleaved", false);          // nanotron's, and with it is_llama_config
  c.ignore({"is_llama_config", "max_sequence_length"});  // the latter is the first Llama's
  read_layer_types(c, m.layers, {"full_attention"});
  GqaSettings gqa;
  read_heads(c, {}, m, gqa);
  gqa.rope = read_rope(c, {});
  gqa.bias = c.boolean("attention_bias", false) ? "qkvo" : "none";
  const LayerSpec channel =
      swiglu_layer(c.integer("intermediate_size", 11008), "silu", c.boolean("mlp_bias", false));
  set_llama_form(
      m, [&](int64_t) { return gqa_layer(gqa, m.settings); }, channel);
  return m;
}

}  // namespace

Family family_llama() { return {"llama", {"llama"}, read}; }

}  // namespace braid
