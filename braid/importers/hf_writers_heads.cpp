// config.json of models whose layers run attention and a state space side by side.

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "braid/base/strings.h"
#include "braid/importers/hf_writers.h"

namespace braid {
namespace {

// "a:b:c" as a list of numbers.
Json number_list(const std::string& text) {
  Json out = Json::array();
  for (const std::string_view number : split(text, ':')) out.push(parse_real(number).value_or(0));
  return out;
}

// Which layers read the keys and values of which, each group led by the one that has them.
Json reuse_groups(const ShownModel& m) {
  std::map<std::string, size_t> led;  // by name, the group that was last
  std::vector<Json> groups;
  for (int64_t i = 0; i < m.blocks(); ++i) {
    const ShownLayer& l = m.layers[static_cast<size_t>(2 * i)];
    if (!l.get("as", "").empty()) {
      led[l.get("as", "")] = groups.size();
      groups.push_back(Json::array({i}));
    } else if (!l.get("of", "").empty()) {
      groups[led.at(l.get("of", ""))].push(i);
    }
  }
  Json out = Json::array();
  for (const Json& group : groups) out.push(group);
  return out;
}

}  // namespace

Json falcon_h1_config(const ShownModel& m) {
  if (!m.has("gqa+mamba2")) homeless("falcon_h1 has gqa + mamba2 layers, this model none");
  Json c = Json::object();
  put_common(m, "falcon_h1", c);
  put_gqa(m, c);
  put_mamba2(*m.first("mamba2"), kBambaKeys, c);
  c.set("mamba_expand", mamba2_expand(m));
  const ShownLayer none{"swiglu", {}, ""};
  const ShownLayer &g = *m.first("gqa"), &l = *m.first("mamba2"),
                   &f = m.has("swiglu") ? *m.first("swiglu") : none;
  if (const double scale = g.real("scale", 0); scale > 0) {
    const double dim = static_cast<double>(g.integer("head_dim", m.settings.head_dim));
    c.set("key_multiplier", scale * std::sqrt(dim));
  }
  c.set("attention_out_multiplier", g.real("out_scale", 1));
  c.set("mamba_d_ssm", l.integer("heads", 0) * l.integer("head_dim", 64));
  c.set("projectors_bias", l.truth("bias", false));
  c.set("mamba_rms_norm", l.get("norm", "gated") != "none");
  c.set("mamba_norm_before_gate", l.get("norm", "gated") == "before");
  put_step_limit(l, c);
  if (!l.get("in_scales", "").empty())
    c.set("ssm_multipliers", number_list(l.get("in_scales", "")));
  c.set("ssm_out_multiplier", l.real("out_scale", 1));
  c.set("intermediate_size", dense_width(m));
  c.set("mlp_bias", f.truth("bias", false));
  c.set("mlp_multipliers", Json::array({f.real("gate_scale", 1), f.real("out_scale", 1)}));
  c.set("embedding_multiplier", m.settings.embedding_scale);
  c.set("lm_head_multiplier", m.settings.logit_scale);
  return c;
}

Json hymba_config(const ShownModel& m) {
  if (!m.has("hymba")) homeless("hymba has hymba layers, this model none");
  Json c = Json::object();
  put_common(m, "hymba", c);
  const ShownLayer& l = *m.first("hymba");
  const int64_t heads = l.integer("heads", m.settings.heads);
  c.set("num_attention_heads", heads);
  c.set("num_key_value_heads", l.integer("kv_heads", heads));
  c.set("intermediate_size", dense_width(m));
  c.set("num_experts", 1);
  c.set("mamba_expand", l.integer("expand", 2));
  c.set("mamba_d_state", l.integer("state", 16));
  c.set("mamba_d_conv", l.integer("conv", 4));
  c.set("mamba_dt_rank", l.integer("dt_rank", 0));
  c.set("rope", l.truth("rope", true));
  c.set("rope_theta", l.real("rope_theta", 10000));
  c.set("rope_type", "default");
  c.set("num_memory_tokens", m.settings.meta_tokens);
  int64_t window = 0;
  Json full = Json::array();
  for (int64_t i = 0; i < m.blocks(); ++i) {
    const int64_t own = m.layers[static_cast<size_t>(2 * i)].integer("window", 0);
    window = std::max(window, own);
    if (own == 0) full.push(i);
  }
  if (window > 0) c.set("sliding_window", window - 1);  // besides the token itself
  c.set("global_attn_idx", full);
  c.set("kv_reuse_group", reuse_groups(m));
  return c;
}

}  // namespace braid
