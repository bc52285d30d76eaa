// Kimi Linear: Kimi Delta Attention, latent attention without positions, experts with a shared one.

#include <algorithm>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/importers/common.h"

namespace braid {
namespace {

// linear_attn_config, an object of its own.
struct LinearConfig {
  int64_t heads = 32, head_dim = 128, conv = 4;
  double gate_lower_bound = 0;
  bool full_rank_gate = false;
  std::vector<bool> full;  // of every layer
};

std::vector<int64_t> layer_list(const ConfigReader& c, const Json& list, const char* key) {
  std::vector<int64_t> out;
  if (!list.is_array()) c.fail(format("linear_attn_config.{} is not a list", key));
  for (const Json& n : list.elements()) {
    if (n.kind() != Json::Kind::kInt || n.as_int() < 0 || n.as_int() > kMostLayers)
      c.fail(format("linear_attn_config.{} holds {}", key, printable(n.dump())));
    out.push_back(n.as_int());
  }
  return out;
}

// The lists count layers from 1 (Kimi) or from 0 (some that copy the block): what they cover tells.
std::vector<bool> full_layers(const ConfigReader& c, const std::vector<int64_t>& kda,
                              const std::vector<int64_t>& full, int64_t layers) {
  std::vector<int64_t> all = kda;
  all.insert(all.end(), full.begin(), full.end());
  std::sort(all.begin(), all.end());
  const int64_t first = all.empty() ? 0 : all.front();
  bool covers = std::ssize(all) == layers && first <= 1;
  for (int64_t i = 0; covers && i < layers; ++i) covers = all[static_cast<size_t>(i)] == first + i;
  if (!covers)
    c.fail(format("kda_layers and full_attn_layers name {} layers that are not 1 to {} or 0 to {}",
                  all.size(), layers, layers - 1));
  std::vector<bool> out(static_cast<size_t>(layers), false);
  for (const int64_t i : full) out[static_cast<size_t>(i - first)] = true;
  return out;
}

// The sizes as linear_attn_config says them, which counts where it stands, or as transformers does.
LinearConfig read_linear(ConfigReader& c, int64_t layers) {
  LinearConfig out;
  out.heads = c.integer("linear_num_heads", out.heads, 1 << 16);
  out.head_dim = c.integer("linear_head_dim", out.head_dim, 1 << 16);
  out.conv = c.integer("linear_conv_kernel_dim", out.conv, 1 << 16);
  if (out.heads < 1 || out.head_dim < 1 || out.conv < 1)
    c.fail("one of linear_num_heads, linear_head_dim and linear_conv_kernel_dim is 0");
  for (const std::string& type :
       read_layer_types(c, layers, {"full_attention", "linear_attention"}))
    out.full.push_back(type == "full_attention");
  const Json* json = c.find("linear_attn_config");
  if (json == nullptr && !out.full.empty()) return out;
  if (json == nullptr || !json->is_object()) c.fail("there is no linear_attn_config");
  std::vector<int64_t> kda, full;
  const auto size = [&](const Json::Member& m) {
    if (m.value.kind() != Json::Kind::kInt || m.value.as_int() < 1 || m.value.as_int() > (1 << 16))
      c.fail(format("linear_attn_config.{} is {}", m.key, printable(m.value.dump())));
    return m.value.as_int();
  };
  for (const Json::Member& m : json->members()) {
    if (m.value.is_null()) continue;
    if (m.key == "num_heads") {
      out.heads = size(m);
    } else if (m.key == "head_dim") {
      out.head_dim = size(m);
    } else if (m.key == "short_conv_kernel_size") {
      out.conv = size(m);
    } else if (m.key == "kda_layers") {
      kda = layer_list(c, m.value, "kda_layers");
    } else if (m.key == "full_attn_layers") {
      full = layer_list(c, m.value, "full_attn_layers");
    } else if (m.key == "gate_lower_bound" && m.value.is_number()) {
      out.gate_lower_bound = m.value.as_real();
    } else if (m.key == "use_full_rank_gate" && m.value.kind() == Json::Kind::kBool) {
      out.full_rank_gate = m.value.as_bool();
    } else {
      c.fail(format("linear_attn_config holds {} = {}, which is not known", printable(m.key),
                    printable(m.value.dump())));
    }
  }
  if (!out.full.empty() && kda.empty() && full.empty()) return out;
  const std::vector<bool> listed = full_layers(c, kda, full, layers);
  if (!out.full.empty() && out.full != listed)
    c.fail("layer_types and linear_attn_config differ in where the full attention is");
  out.full = listed;
  return out;
}

LayerSpec kda_layer(const LinearConfig& l) {
  OptionList o;
  o.add("heads", l.heads, -1);
  o.add("head_dim", l.head_dim, -1);
  o.add("conv", l.conv, 4);
  o.add("gate_lower_bound", l.gate_lower_bound, 0.0);
  o.add("full_rank_gate", l.full_rank_gate, false);
  return o.layer("kda");
}

MoeSettings read_moe(ConfigReader& c) {
  MoeSettings moe;
  read_experts(c, 256, 8, c.integer("moe_intermediate_size", 1024), moe);
  c.require_text("moe_router_activation_func", {"sigmoid"});
  moe.sigmoid = true;
  moe.correction_bias = true;
  moe.renormalise = c.boolean("moe_renormalize", true);
  if (c.boolean("norm_topk_prob", moe.renormalise) != moe.renormalise) {
    if (c.has("moe_renormalize")) c.fail("moe_renormalize and norm_topk_prob differ");
    moe.renormalise = !moe.renormalise;
  }
  c.require_given({"routed_scaling_factor"});
  moe.scale = c.real("routed_scaling_factor", 1);
  moe.groups = c.integer({"num_expert_group", "n_group"}, 1);
  moe.topk_groups = c.integer("topk_group", 1);
  c.require_given({"num_shared_experts", "n_shared_experts"});
  moe.shared = c.integer({"num_shared_experts", "n_shared_experts"}, 1, 1 << 12) * moe.ffn;
  c.require_integer("moe_layer_freq", 1);
  c.ignore({"use_grouped_topk"});  // one group is no group
  return moe;
}

// Whether each layer has experts.
std::vector<bool> sparse_layers(ConfigReader& c, int64_t layers) {
  const std::vector<std::string> kinds = read_mlp_layer_types(c, layers);
  if (kinds.empty()) c.require_given({"first_k_dense_replace"});
  const int64_t first = c.integer("first_k_dense_replace", 1);
  std::vector<bool> out;
  for (int64_t i = 0; i < layers; ++i)
    out.push_back(kinds.empty() ? i >= first : kinds[static_cast<size_t>(i)] == "sparse");
  return out;
}

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  c.require_given({"rms_norm_eps"});
  const int64_t made_for = c.integer("model_max_length", 0, int64_t{1} << 40);
  read_model(
      c, {.width = 2304, .layers = 27, .vocab = 163840, .max_positions = made_for, .eps = 1e-5}, m);
  c.require_text("hidden_act", {"silu"});
  c.require_integer("attn_res_block_size", 0);  // this and the rest are Kimi K3's
  c.ignore({"activation_situ_beta", "activation_situ_linear_beta"});  // of hidden_act "situ"
  c.require_boolean("attention_bias", false);
  const LinearConfig linear = read_linear(c, m.layers);
  const int64_t heads = c.integer("num_attention_heads", 32, 1 << 16);
  const int64_t kv_rank = c.integer("kv_lora_rank", 512), nope = c.integer("qk_nope_head_dim", 128);
  const int64_t shared = c.integer("qk_rope_head_dim", 64), value = c.integer("v_head_dim", 128);
  const int64_t q_rank = c.integer("q_lora_rank", 0);
  if (heads < 1 || kv_rank < 1 || nope < 1 || shared < 1 || value < 1)
    c.fail(
        "one of num_attention_heads, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim and "
        "v_head_dim is 0");
  c.require_boolean("mla_use_output_gate", false);
  RopeSettings positions = read_rope(c, {.max_positions = 0});
  positions.on = !c.boolean("mla_use_nope", false);
  if (positions.on) c.fail("mla_use_nope is false; only layers without positions are known");
  positions.mscale = 1;
  m.settings.heads = heads;
  m.settings.head_dim = nope + shared;
  c.ignore({"head_dim", "num_key_value_heads"});  // of neither kind of layer
  if (const int64_t whole = c.integer("qk_head_dim", nope + shared); whole != nope + shared)
    c.fail(format("qk_head_dim is {}, not {} + {}", whole, nope, shared));
  const MoeSettings moe = read_moe(c);
  const std::vector<bool> sparse = sparse_layers(c, m.layers);
  const int64_t dense = c.integer("dense_ffn_hidden", c.integer("intermediate_size", 9216));
  set_stack(
      m,
      [&](int64_t i) {
        return linear.full[static_cast<size_t>(i)]
                   ? mla_layer(heads, q_rank, kv_rank, nope, shared, value, positions, true, false)
                   : kda_layer(linear);
      },
      [&](int64_t i) {
        return sparse[static_cast<size_t>(i)] ? moe_layer(moe) : swiglu_layer(dense);
      });
  m.table = base_table();
  append(m.table, {{"mixer.mla.*", "self_attn.*", copied(), ""},
                   {"mixer.kda.A_log", "self_attn.A_log", shaped({1, 1, -1, 1}), ""},
                   {"mixer.kda.*", "self_attn.*", copied(), ""}});
  append(m.table, swiglu_rows());
  append(m.table, moe_rows("block_sparse_moe.", "w1", "w3", "w2", "shared_experts"));
  return m;
}

}  // namespace

Family family_kimi_linear() { return {"kimi_linear", {"kimi_linear"}, read}; }

}  // namespace braid
