// OLMo 2 and 3: norms behind the layers, one norm over all heads of q and k. OLMo 3 slides over
// three layers of four and stretches positions on the full ones only, as it was trained (the
// published class of transformers once lost that).

#include "braid/importers/common.h"

namespace braid {
namespace {

struct Parts {
  GqaSettings gqa;
  LayerSpec channel;
};

Parts read_parts(ConfigReader& c, FamilyModel& m) {
  read_model(c, {.vocab = 50304, .eps = 1e-5}, m);
  m.settings.norm_placement = NormPlacement::kPost;
  c.require_text("hidden_act", {"silu"});
  Parts p;
  read_heads(c, {}, m, p.gqa);
  p.gqa.qk_norm = "full";
  p.gqa.bias = c.boolean("attention_bias", false) ? "qkvo" : "none";
  p.channel = swiglu_layer(c.integer("intermediate_size", 11008));
  m.table = {{"embed_tokens.weight", "{P}embed_tokens.weight", copied(), ""},
             {"norm.weight", "{P}norm.weight", copied(), ""},
             {"lm_head.weight", "{H}lm_head.weight", copied(), ""},
             {"mixer.post_norm.weight", "post_attention_layernorm.weight", copied(), ""},
             {"channel.post_norm.weight", "post_feedforward_layernorm.weight", copied(), ""}};
  append(m.table, gqa_rows());
  append(m.table, swiglu_rows());
  return p;
}

FamilyModel read_olmo2(ConfigReader& c) {
  FamilyModel m;
  Parts p = read_parts(c, m);
  p.gqa.rope = read_rope(c, {});
  read_layer_types(c, m.layers, {"full_attention"});
  set_stack(
      m, [&](int64_t) { return gqa_layer(p.gqa, m.settings); }, [&](int64_t) { return p.channel; });
  return m;
}

FamilyModel read_olmo3(ConfigReader& c) {
  FamilyModel m;
  Parts p = read_parts(c, m);
  c.require_given({"rope_theta", "rope_parameters"});
  const RopeSettings full = read_rope(c, {}, "full_attention");
  RopeSettings sliding = full;
  const Json* by_type = c.find("rope_parameters");
  if (by_type != nullptr && by_type->is_object() && by_type->find("sliding_attention") != nullptr) {
    sliding = read_rope(c, {}, "sliding_attention");
  } else {
    sliding.scaling.clear();
  }
  const int64_t window = c.explicit_null("sliding_window") ? 0 : c.integer("sliding_window", 4096);
  const std::vector<std::string> types =
      read_layer_types(c, m.layers, {"full_attention", "sliding_attention"});
  const auto mixer = [&](int64_t i) {
    const bool slides =
        types.empty() ? (i + 1) % 4 != 0 : types[static_cast<size_t>(i)] == "sliding_attention";
    p.gqa.window = slides ? window : 0;
    p.gqa.rope = slides ? sliding : full;
    return gqa_layer(p.gqa, m.settings);
  };
  set_stack(m, mixer, [&](int64_t) { return p.channel; });
  return m;
}

}  // namespace

Family family_olmo2() { return {"olmo2", {"olmo2"}, read_olmo2}; }
Family family_olmo3() { return {"olmo3", {"olmo3"}, read_olmo3}; }

}  // namespace braid
