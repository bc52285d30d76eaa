// Nemotron-H, Nemotron Nano 2 and Nemotron 3: layers of one sub-layer each, Mamba-2, attention
// without positions, an ungated feed-forward layer or experts like it, in the order of a pattern.

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/importers/common.h"

namespace braid {
namespace {

constexpr const char* kLetters = "M is Mamba-2, * attention, - a feed-forward layer, E experts";

// One letter a layer: hybrid_override_pattern, or layers_block_type under either of its names.
std::string read_pattern(ConfigReader& c) {
  std::string pattern = c.text("hybrid_override_pattern", "");
  for (const char* key : {"layers_block_type", "layer_types"}) {
    std::string own;
    for (const std::string& kind : c.texts(key)) {
      const bool mamba = kind == "mamba" || kind == "linear_attention";
      const bool attention = kind == "attention" || kind == "full_attention";
      if (!mamba && !attention && kind != "mlp" && kind != "moe")
        c.fail(format("{} holds \"{}\", which is not known for nemotron_h", key, printable(kind)));
      own += mamba ? 'M' : attention ? '*' : kind == "mlp" ? '-' : 'E';
    }
    if (own.empty()) continue;
    if (!pattern.empty() && pattern != own)
      c.fail(format("{} says {}, another key {}", key, own, printable(pattern)));
    pattern = own;
  }
  if (pattern.empty()) c.fail("there is neither hybrid_override_pattern nor layers_block_type");
  if (std::ssize(pattern) > kMostLayers)
    c.fail(format("the pattern has {} layers, at most {} are read", pattern.size(), kMostLayers));
  for (const char letter : pattern) {
    if (letter != 'M' && letter != '*' && letter != '-' && letter != 'E')
      c.fail(format("hybrid_override_pattern holds \"{}\"; {}", printable(std::string(1, letter)),
                    kLetters));
  }
  return pattern;
}

Mamba2Settings read_mamba2(ConfigReader& c) {
  const Mamba2Settings defaults{.heads = 128,
                                .groups = c.integer({kNemotronKeys.groups, "mamba_n_groups"}, 8),
                                .conv = c.integer({kNemotronKeys.conv, "mamba_d_conv"}, 4),
                                .conv_bias = c.boolean("mamba_conv_bias", true)};
  Mamba2Settings m = read_mamba2_sizes(c, kNemotronKeys, defaults);
  if (c.boolean("mamba_conv_bias", m.conv_bias) != m.conv_bias)
    c.fail("use_conv_bias and mamba_conv_bias differ");
  check_mamba2(c, m);
  const bool older = c.has("mamba_dt_limit");
  if (older && c.has("time_step_limit") && *c.find("mamba_dt_limit") != *c.find("time_step_limit"))
    c.fail("time_step_limit and mamba_dt_limit differ");
  read_step_limit(c, older ? "mamba_dt_limit" : "time_step_limit", m);
  c.require_text("mamba_hidden_act", {"silu"});
  // expand is not read where heads and their size are given; mamba_proj_bias never is.
  c.ignore({"expand", "mamba_proj_bias", "chunk_size", "time_step_min", "time_step_max",
            "time_step_floor", "time_step_rank", "mamba_ssm_cache_dtype", "use_mamba_kernels",
            "mamba_expand", "mamba_chunk_size", "mamba_dt_min", "mamba_dt_max",
            "mamba_dt_init_floor"});
  return m;
}

GqaSettings read_attention(ConfigReader& c, FamilyModel& m) {
  GqaSettings gqa;
  const int64_t head_dim = c.integer({"head_dim", "attention_head_dim"}, 128, 1 << 16);
  read_heads(c, {.kv_heads = 8, .head_dim = head_dim}, m, gqa);
  gqa.rope.on = false;
  gqa.bias = c.boolean("attention_bias", false) ? "qkvo" : "none";
  if (c.has("sliding_window")) c.fail("sliding_window is given; none is known for nemotron_h");
  c.ignore({"rope_theta", "partial_rotary_factor"});
  return gqa;
}

LayerSpec read_feed_forward(ConfigReader& c) {
  const int64_t ffn = c.integer("intermediate_size", 21504);
  if (ffn < 1) c.fail("intermediate_size is 0");
  c.require_text("mlp_hidden_act", {"relu2"});
  OptionList o;
  o.add("ffn", ffn, 0);
  o.add("act", std::string("relu2"), "gelu_tanh");
  o.add("bias", c.boolean("mlp_bias", false), false);
  return o.layer("mlp");
}

LayerSpec read_moe(ConfigReader& c) {
  if (c.has("moe_latent_size"))
    c.fail("moe_latent_size is given: experts between latent projections have no layer in braid");
  if (c.boolean("mlp_bias", false)) c.fail("mlp_bias is true; experts have no biases");
  MoeSettings moe;
  read_experts(c, 8, 2, c.integer("moe_intermediate_size", 7688), moe);
  read_sigmoid_router(c, {}, moe);
  if (c.integer("n_shared_experts", 1) != 1) c.fail("n_shared_experts is not 1");
  moe.shared = c.integer("moe_shared_expert_intermediate_size", 7688);
  moe.gated = false;
  return moe_layer(moe);
}

void check_eps(ConfigReader& c, double eps) {
  for (const char* key : {"rms_norm_eps", "norm_eps"}) {
    if (const double other = c.real(key, eps); other != eps)
      c.fail(format("layer_norm_epsilon is {}, {} is {}", eps, key, other));
  }
}

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  const std::string pattern = read_pattern(c);
  const int64_t layers = std::ssize(pattern);
  read_model(c,
             {.layers = layers,
              .vocab = 131072,
              .max_positions = 4096,
              .eps = 1e-5,
              .eps_key = "layer_norm_epsilon"},
             m);
  if (m.layers != layers)
    c.fail(format("num_hidden_layers is {}, hybrid_override_pattern has {}", m.layers, layers));
  check_eps(c, m.settings.norm_eps);
  const GqaSettings gqa = read_attention(c, m);
  const Mamba2Settings mamba = read_mamba2(c);
  const LayerSpec feed_forward = read_feed_forward(c);
  const bool sparse = pattern.find('E') != std::string::npos;
  const LayerSpec moe = sparse ? read_moe(c) : LayerSpec();
  // The keys of experts stand in configs without them too.
  c.ignore({"n_routed_experts", "n_shared_experts", "moe_intermediate_size",
            "moe_shared_expert_intermediate_size", "moe_latent_size", "moe_shared_expert_overlap",
            "num_experts_per_tok", "routed_scaling_factor", "n_group", "topk_group",
            "norm_topk_prob", "mtp_layers_block_type", "mtp_hybrid_override_pattern",
            "num_logits_to_keep", "num_query_groups", "rescale_prenorm_residual",
            "residual_in_fp32"});
  set_stack(m, [&](int64_t i) {
    const char letter = pattern[static_cast<size_t>(i)];
    return letter == 'M'   ? mamba2_layer(mamba, m.settings.width)
           : letter == '*' ? gqa_layer(gqa, m.settings)
           : letter == 'E' ? moe
                           : feed_forward;
  });
  m.prefix = "backbone.";
  m.table = {{"embed_tokens.weight", "{P}embeddings.weight", copied(), ""},
             {"norm.weight", "{P}norm_f.weight", copied(), ""},
             {"lm_head.weight", "{H}lm_head.weight", copied(), ""},
             {"mixer.norm.weight", "norm.weight", copied(), ""},
             {"mixer.gqa.*", "mixer.*", copied(), ""},
             {"mixer.mlp.*", "mixer.*", copied(), ""},
             {"mixer.moe.gate.*", "mixer.gate.*", copied(), ""},
             {"mixer.moe.experts.*", "mixer.experts.{e}.*.weight", experts(), ""},
             {"mixer.moe.shared_expert.*", "mixer.shared_experts.*", copied(), ""}};
  append(m.table, mamba2_rows(mamba, "mixer."));
  return m;
}

}  // namespace

Family family_nemotron_h() { return {"nemotron_h", {"nemotron_h"}, read}; }

}  // namespace braid
