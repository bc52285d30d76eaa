// Mamba-2 in Hugging Face's form and in state-spaces' own: layers of one mixer.

#include <cmath>

#include "braid/base/format.h"
#include "braid/importers/families/state_spaces.h"

namespace braid {
namespace {

void finish(const ConfigReader& c, FamilyModel& m, const Mamba2Settings& mamba, bool own) {
  check_mamba2(c, mamba);
  const ModelSettings& s = m.settings;
  if (s.width < 1 || s.vocab < 2 || m.layers < 1)
    c.fail(format("width {}, {} layers, vocabulary {}", s.width, m.layers, s.vocab));
  set_backbone(m, mamba2_layer(mamba, s.width), own, mamba2_rows(mamba, "mixer."));
}

// Hugging Face's. Its fused kernel takes the gated norm's statistics over each group, as mamba_ssm
// that trained the published models does; its other path takes them over all channels.
FamilyModel read_hf(ConfigReader& c) {
  FamilyModel m;
  ModelSettings& s = m.settings;
  s.width = c.integer("hidden_size", 4096, 1 << 20);
  s.vocab = c.integer("vocab_size", 32768);
  m.layers = c.integer("num_hidden_layers", 64, kMostLayers);
  s.norm_eps = c.real("layer_norm_epsilon", 1e-5);
  m.tie_given = c.has("tie_word_embeddings");
  s.tie_embeddings = c.boolean("tie_word_embeddings", false);
  Mamba2Settings mamba = read_mamba2_sizes(c, kMamba2Keys, {.heads = 128, .groups = 8});
  const double expand = c.real("expand", 2);
  const int64_t inner = mamba.heads * mamba.head_dim;
  if (std::floor(expand * static_cast<double>(s.width)) != static_cast<double>(inner) ||
      c.integer("intermediate_size", inner) != inner)
    c.fail(
        format("num_heads = {} of head_dim = {} do not make the channels of expand = {} or "
               "intermediate_size",
               mamba.heads, mamba.head_dim, expand));
  read_step_limit(c, "time_step_limit", mamba);
  read_layer_types(c, m.layers, {"linear_attention"});
  c.require_text("hidden_act", {"silu"});
  c.require_boolean("rms_norm", true);
  c.ignore({"chunk_size", "time_step_min", "time_step_max", "time_step_floor", "time_step_scale",
            "time_step_init_scheme", "time_step_rank", "rescale_prenorm_residual",
            "residual_in_fp32", "norm_before_gate", "A_initializer_range", "conv_initializer_range",
            "emb_initializer_range"});
  if (mamba.groups > 1)
    m.notes.push_back(
        format("the gated norm has statistics of its own for each of {} groups", mamba.groups));
  finish(c, m, mamba, false);
  return m;
}

FamilyModel read_own(ConfigReader& c) {
  FamilyModel m;
  ConfigReader ssm = read_state_spaces(c, "Mamba2", m);
  Mamba2Settings mamba;
  mamba.state = ssm.integer("d_state", 128);
  mamba.head_dim = ssm.integer("headdim", 64);
  mamba.groups = ssm.integer("ngroups", 1);
  mamba.conv = ssm.integer("d_conv", 4);
  mamba.conv_bias = ssm.boolean("conv_bias", true);
  mamba.bias = ssm.boolean("bias", false);
  mamba.channel_skip = ssm.boolean("D_has_hdim", false);
  const int64_t inner = ssm.integer("expand", 2, 1 << 10) * m.settings.width;
  if (mamba.head_dim < 1 || inner % mamba.head_dim != 0 || ssm.integer("d_ssm", inner) != inner)
    ssm.fail(
        format("headdim = {} does not divide the {} channels of expand, or d_ssm is not all "
               "of them",
               mamba.head_dim, inner));
  mamba.heads = inner / mamba.head_dim;
  const bool before = ssm.boolean("norm_before_gate", false);
  mamba.norm = !ssm.boolean("rmsnorm", true) ? "none" : before ? "before" : "gated";
  read_step_limit(ssm, "dt_limit", mamba);
  ssm.ignore({"conv_init", "A_init_range", "dt_min", "dt_max", "dt_init_floor", "chunk_size",
              "use_mem_eff_path"});
  ssm.finish();
  finish(c, m, mamba, true);
  return m;
}

FamilyModel read(ConfigReader& c) { return c.model_type() == "Mamba2" ? read_own(c) : read_hf(c); }

}  // namespace

Family family_mamba2() { return {"mamba2", {"mamba2", "Mamba2"}, read}; }

}  // namespace braid
