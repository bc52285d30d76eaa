// LFM2: gated short convolutions, attention with q/k norms every few layers. The first releases
// spell the config otherwise.

#include <algorithm>
#include <cmath>

#include "braid/base/format.h"
#include "braid/importers/common.h"

namespace braid {
namespace {

// The width of the feed-forward layers: as given, or two thirds of it, stretched and rounded up.
int64_t read_ffn(ConfigReader& c) {
  const int64_t given = c.integer({"block_ff_dim", "intermediate_size"}, 12288);
  const int64_t multiple = c.integer("block_multiple_of", 256);
  const bool stretched = !c.explicit_null("block_ffn_dim_multiplier");
  const double multiplier = c.real("block_ffn_dim_multiplier", 1);
  if (multiple < 1 || !(multiplier > 0) || !(multiplier < 1e6))
    c.fail(format("block_multiple_of is {}, block_ffn_dim_multiplier {}", multiple, multiplier));
  int64_t ffn = given;
  if (c.boolean("block_auto_adjust_ff_dim", true)) {
    ffn = 2 * given / 3;
    if (stretched) {
      ffn = static_cast<int64_t>(multiplier * static_cast<double>(ffn));
      ffn = (ffn + multiple - 1) / multiple * multiple;
    }
  }
  if (ffn < 1) c.fail(format("the feed-forward layers of intermediate_size {} are empty", given));
  return ffn;
}

std::vector<bool> read_attends(ConfigReader& c, int64_t layers) {
  const std::vector<std::string> types = read_layer_types(c, layers, {"conv", "full_attention"});
  const bool listed = c.has("full_attn_idxs");
  const std::vector<int64_t> full = c.integers("full_attn_idxs");
  std::vector<bool> out;
  for (int64_t i = 0; i < layers; ++i) {
    if (!types.empty()) {
      out.push_back(types[static_cast<size_t>(i)] == "full_attention");
    } else {
      out.push_back(!listed || std::find(full.begin(), full.end(), i) != full.end());
    }
  }
  return out;
}

LayerSpec read_conv(ConfigReader& c, int64_t width) {
  // The class makes everything hidden_size wide and reads none of these.
  for (const char* key : {"block_dim", "conv_dim", "conv_dim_out"}) {
    const int64_t given = c.integer(key, width);
    if (given != width) c.fail(format("{} is {}, hidden_size {}", key, given, width));
  }
  c.require_boolean("attention_bias", false);
  c.require_boolean("block_use_swiglu", true);
  c.require_boolean("use_pos_enc", true);
  c.ignore({"num_heads", "block_norm_eps", "block_mlp_init_scale", "block_out_init_scale",
            "block_use_xavier_init", "conv_use_xavier_init"});
  OptionList o;
  o.add("conv", c.integer("conv_L_cache", 3), 3);
  o.add("bias", c.boolean("conv_bias", false), false);
  return o.layer("shortconv");
}

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c,
             {.width = 2560,
              .vocab = 65536,
              .max_positions = 128000,
              .eps = 1e-5,
              .tied = true,
              .eps_key = "norm_eps"},
             m);
  if (c.has("tie_embedding")) {
    m.tie_given = true;
    m.settings.tie_embeddings = c.boolean("tie_embedding", true);
  }
  GqaSettings gqa;
  read_heads(c, {.kv_heads = 8}, m, gqa);
  const double theta = c.real("theta", 1e6);  // rope_theta of the first releases
  gqa.rope = read_rope(c, {.theta = theta, .max_positions = 128000});
  if (c.has("theta") && gqa.rope.theta != theta)
    c.fail(format("theta is {}, rope_theta {}", theta, gqa.rope.theta));
  gqa.qk_norm = "head";
  const LayerSpec conv = read_conv(c, m.settings.width);
  const LayerSpec channel = swiglu_layer(read_ffn(c));
  const std::vector<bool> attends = read_attends(c, m.layers);
  set_stack(
      m,
      [&](int64_t i) {
        return attends[static_cast<size_t>(i)] ? gqa_layer(gqa, m.settings) : conv;
      },
      [&](int64_t) { return channel; });
  m.table = {{"norm.weight", "{P}embedding_norm.weight", copied(), ""},
             {"mixer.shortconv.*", "conv.*", copied(), ""},
             {"mixer.gqa.o_proj.weight", "self_attn.out_proj.weight", copied(), ""},
             {"mixer.gqa.q_norm.weight", "self_attn.q_layernorm.weight", copied(), ""},
             {"mixer.gqa.k_norm.weight", "self_attn.k_layernorm.weight", copied(), ""},
             {"channel.swiglu.gate_proj.weight", "feed_forward.w1.weight", copied(), ""},
             {"channel.swiglu.up_proj.weight", "feed_forward.w3.weight", copied(), ""},
             {"channel.swiglu.down_proj.weight", "feed_forward.w2.weight", copied(), ""}};
  append(m.table, base_table("operator_norm", "ffn_norm"));
  append(m.table, gqa_rows());
  return m;
}

}  // namespace

Family family_lfm2() { return {"lfm2", {"lfm2"}, read}; }

}  // namespace braid
