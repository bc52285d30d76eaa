// Gemma 3, text: norms on q and k, sliding layers with a theta of their own. Inside `gemma3` too.

#include "braid/importers/families/gemma.h"

namespace braid {
namespace {

// Sliding layers turn by rope_local_base_freq, unscaled; rope_parameters says both in turn.
RopeSettings sliding_rope(ConfigReader& c) {
  const Json* given = c.find("rope_parameters");
  if (given != nullptr && !is_keyed(c, "rope_parameters", *given))
    c.fail("rope_parameters has no settings by layer type");
  return read_rope(c,
                   {.theta = 10000,
                    .max_positions = 131072,
                    .theta_key = "rope_local_base_freq",
                    .unscaled = true},
                   "sliding_attention");
}

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  GemmaParts parts = read_gemma(c, 262208, 131072, m);
  parts.gqa.qk_norm = "head";
  parts.gqa.one_plus = true;
  parts.gqa.softcap = c.real("attn_logit_softcapping", 0);
  m.settings.logit_softcap = c.real("final_logit_softcapping", 0);
  const RopeSettings full = read_rope(c, {.theta = 1e6, .max_positions = 131072}, "full_attention");
  const RopeSettings sliding = sliding_rope(c);
  const int64_t window = c.explicit_null("sliding_window") ? 0 : c.integer("sliding_window", 4096);
  const int64_t pattern = c.integer({"sliding_window_pattern", "_sliding_window_pattern"}, 6);
  if (pattern < 1) c.fail("sliding_window_pattern is 0");
  const std::vector<std::string> types =
      read_layer_types(c, m.layers, {"full_attention", "sliding_attention"});
  const auto mixer = [&](int64_t i) {
    const bool slides = types.empty() ? (i + 1) % pattern != 0
                                      : types[static_cast<size_t>(i)] == "sliding_attention";
    parts.gqa.window = slides ? window : 0;
    parts.gqa.rope = slides ? sliding : full;
    return gqa_layer(parts.gqa, m.settings);
  };
  set_stack(m, mixer, [&](int64_t) { return parts.channel; });
  m.table = gemma_table();
  if (c.nested()) m.prefix = "language_model.model.";
  return m;
}

}  // namespace

Family family_gemma3() { return {"gemma3", {"gemma3_text", "gemma3"}, read}; }

}  // namespace braid
