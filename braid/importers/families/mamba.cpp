// Mamba in Hugging Face's form and in state-spaces' own, and Falcon-Mamba: layers of one mixer.

#include "braid/importers/families/state_spaces.h"

#include "braid/base/format.h"

namespace braid {
namespace {

void check_sizes(const ConfigReader& c, const FamilyModel& m, const MambaSettings& mamba) {
  if (!(m.settings.norm_eps > 0) || (mamba.norms && !(mamba.norm_eps > 0)))
    c.fail(format("norms have the epsilons {} and {}", m.settings.norm_eps, mamba.norm_eps));
  if (m.settings.width < 1 || m.settings.vocab < 2 || m.layers < 1 || mamba.inner < 1 ||
      mamba.state < 1 || mamba.conv < 1)
    c.fail(format("width {}, inner {}, state {}, {} taps, {} layers, vocabulary {}",
                  m.settings.width, mamba.inner, mamba.state, mamba.conv, m.layers,
                  m.settings.vocab));
}

std::vector<TensorRow> mamba_rows() { return {{"mixer.mamba.*", "mixer.*", copied(), ""}}; }

// Hugging Face's. What state-spaces' own form said stays in their files: it must agree, or is not
// read by the class.
FamilyModel read_hf(ConfigReader& c, bool falcon) {
  FamilyModel m;
  ModelSettings& s = m.settings;
  s.width = c.integer({"hidden_size", "d_model"}, 768, 1 << 20);
  s.vocab = c.integer("vocab_size", 50280);
  m.layers = c.integer({"num_hidden_layers", "n_layer"}, 32, kMostLayers);
  s.norm_eps = c.real("layer_norm_epsilon", 1e-5);
  m.tie_given = c.has("tie_word_embeddings");
  s.tie_embeddings = c.boolean("tie_word_embeddings", true);
  MambaSettings mamba;
  mamba.state = c.integer("state_size", 16);
  mamba.conv = c.integer("conv_kernel", 4);
  const int64_t expand = c.integer("expand", 2, 1 << 10);
  mamba.inner = c.integer({"intermediate_size", "d_inner"}, expand * s.width);
  mamba.conv_bias = c.boolean("use_conv_bias", true);
  mamba.bias = c.boolean("use_bias", false);
  if (falcon) {
    mamba.norms = true;
    mamba.norm_gains = false;
    mamba.norm_eps = c.real("mixer_rms_eps", 1e-6);
  }
  check_sizes(c, m, mamba);
  mamba.dt_rank = read_dt_rank(c, "time_step_rank", s.width);
  c.require_text("hidden_act", {"silu"});
  c.require_boolean("rms_norm", true);
  read_layer_types(c, m.layers, {"linear_attention"});
  c.ignore({"time_step_min", "time_step_max", "time_step_floor", "time_step_scale",
            "time_step_init_scheme", "rescale_prenorm_residual", "residual_in_fp32",
            "fused_add_norm", "pad_vocab_size_multiple", "ssm_cfg", "use_mambapy",
            "use_falcon_mambapy", "use_associative_scan"});
  set_backbone(m, mamba_layer(mamba, s.width), false, mamba_rows());
  return m;
}

FamilyModel read_falcon(ConfigReader& c) { return read_hf(c, true); }

FamilyModel read_own(ConfigReader& c) {
  FamilyModel m;
  ConfigReader ssm = read_state_spaces(c, "Mamba1", m);
  const int64_t width = m.settings.width;
  MambaSettings mamba;
  mamba.state = ssm.integer("d_state", 16);
  mamba.conv = ssm.integer("d_conv", 4);
  mamba.inner = ssm.integer("expand", 2, 1 << 10) * width;
  mamba.conv_bias = ssm.boolean("conv_bias", true);
  mamba.bias = ssm.boolean("bias", false);
  check_sizes(c, m, mamba);
  mamba.dt_rank = read_dt_rank(ssm, "dt_rank", width);
  ssm.ignore({"dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "use_fast_path"});
  ssm.finish();
  set_backbone(m, mamba_layer(mamba, width), true, mamba_rows());
  return m;
}

FamilyModel read_mamba(ConfigReader& c) {
  return c.model_type() == "Mamba1" ? read_own(c) : read_hf(c, false);
}

}  // namespace

ConfigReader read_state_spaces(ConfigReader& c, const char* layer, FamilyModel& m) {
  ModelSettings& s = m.settings;
  s.width = c.integer("d_model", 2560, 1 << 20);
  m.layers = c.integer("n_layer", 64, kMostLayers);
  const int64_t multiple = c.integer("pad_vocab_size_multiple", 8, 1 << 16);
  if (multiple < 1) c.fail("pad_vocab_size_multiple is 0");
  s.vocab = (c.integer("vocab_size", 50277) + multiple - 1) / multiple * multiple;
  s.norm_eps = 1e-5;
  m.tie_given = c.has("tie_embeddings");
  s.tie_embeddings = c.boolean("tie_embeddings", true);
  c.require_boolean("rms_norm", true);
  if (c.integer("d_intermediate", 0) != 0) c.fail("d_intermediate is not 0");
  if (!c.integers("attn_layer_idx").empty()) c.fail("attn_layer_idx is not empty");
  c.ignore({"residual_in_fp32", "fused_add_norm", "attn_cfg"});
  const Json* given = c.find("ssm_cfg");
  if (given == nullptr) c.fail("there is no ssm_cfg");
  ConfigReader ssm(*given, c.source() + ": ssm_cfg");
  ssm.require_text("layer", {layer});
  return ssm;
}

void set_backbone(FamilyModel& m, const LayerSpec& layer, bool own, std::vector<TensorRow> mixer) {
  set_stack(m, [&](int64_t) { return layer; });
  m.prefix = "backbone.";
  constexpr const char* kHf = "{P}embeddings.weight";
  constexpr const char* kOwn = "{P}embedding.weight";
  m.table = {{"embed_tokens.weight", own ? kOwn : kHf, copied(), ""},
             {"embed_tokens.weight", own ? kHf : kOwn, copied(), ""},
             {"norm.weight", "{P}norm_f.weight", copied(), ""},
             {"lm_head.weight", "{H}lm_head.weight", copied(), ""},
             {"mixer.norm.weight", "norm.weight", copied(), ""}};
  append(m.table, std::move(mixer));
}

Family family_mamba() { return {"mamba", {"mamba", "Mamba1"}, read_mamba}; }
Family family_falcon_mamba() { return {"falcon_mamba", {"falcon_mamba"}, read_falcon}; }

}  // namespace braid
