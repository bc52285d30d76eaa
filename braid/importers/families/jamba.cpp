// Jamba: Mamba with inner norms, attention without positions every few layers, experts every other.

#include "braid/base/format.h"
#include "braid/importers/common.h"

namespace braid {
namespace {

// Every period-th layer, from the offset on.
std::vector<bool> read_every(ConfigReader& c, const char* period_key, const char* offset_key,
                             int64_t period_default, int64_t offset_default, int64_t layers) {
  const int64_t period = c.integer(period_key, period_default);
  const int64_t offset = c.integer(offset_key, offset_default);
  if (period < 1 || offset >= period)
    c.fail(format("{} = {} with {} = {}", period_key, period, offset_key, offset));
  std::vector<bool> out;
  for (int64_t i = 0; i < layers; ++i) out.push_back(i % period == offset);
  return out;
}

// By period and offset; what the class makes of them may be written beside them.
std::vector<bool> read_attends(ConfigReader& c, int64_t layers) {
  const std::vector<bool> out =
      read_every(c, "attn_layer_period", "attn_layer_offset", 8, 4, layers);
  const std::vector<std::string> types =
      read_layer_types(c, layers, {"full_attention", "linear_attention"});
  for (size_t i = 0; i < types.size(); ++i) {
    if ((types[i] == "full_attention") != out[i])
      c.fail(format("layer_types has {} for layer {}, unlike attn_layer_period and _offset",
                    types[i], i));
  }
  return out;
}

MambaSettings read_mamba(ConfigReader& c, int64_t width) {
  MambaSettings mamba;
  mamba.state = c.integer("mamba_d_state", 16);
  mamba.conv = c.integer("mamba_d_conv", 4);
  const int64_t expand = c.integer("mamba_expand", 2, 1 << 10);
  if (mamba.state < 1 || expand < 1 || mamba.conv < 1)
    c.fail(format("mamba_d_state = {}, mamba_expand = {}, mamba_d_conv = {}", mamba.state, expand,
                  mamba.conv));
  mamba.inner = expand * width;
  mamba.dt_rank = read_dt_rank(c, "mamba_dt_rank", width);
  mamba.conv_bias = c.boolean("mamba_conv_bias", true);
  mamba.bias = c.boolean("mamba_proj_bias", false);
  mamba.norms = true;
  c.require_boolean("mamba_inner_layernorms", true);
  return mamba;
}

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.vocab = 65536, .max_positions = 262144}, m);
  c.require_text("hidden_act", {"silu"});
  GqaSettings gqa;
  read_heads(c, {.kv_heads = 8}, m, gqa);
  gqa.rope.on = false;
  if (c.has("sliding_window")) c.fail("sliding_window is given; none is known for jamba");
  const MambaSettings mamba = read_mamba(c, m.settings.width);
  const std::vector<bool> attends = read_attends(c, m.layers);
  std::vector<bool> sparse =
      read_every(c, "expert_layer_period", "expert_layer_offset", 2, 1, m.layers);
  const int64_t ffn = c.integer("intermediate_size", 14336);
  MoeSettings moe;
  if (c.integer({"num_experts", "num_local_experts"}, 16, 1 << 16) > 1) {
    read_experts(c, 16, 2, ffn, moe);
    moe.renormalise = false;
  } else {
    c.ignore({"num_experts_per_tok"});
    sparse.assign(sparse.size(), false);
  }
  // n_ctx is what its first release called max_position_embeddings, and nothing reads either.
  c.ignore({"use_mamba_kernels", "num_logits_to_keep", "calc_logits_for_entire_prompt", "n_ctx"});
  set_stack(
      m,
      [&](int64_t i) {
        return attends[static_cast<size_t>(i)] ? gqa_layer(gqa, m.settings)
                                               : mamba_layer(mamba, m.settings.width);
      },
      [&](int64_t i) {
        return sparse[static_cast<size_t>(i)] ? moe_layer(moe) : swiglu_layer(ffn);
      });
  m.table = {{"norm.weight", "{P}final_layernorm.weight", copied(), ""},
             {"mixer.mamba.*", "mamba.*", copied(), ""},
             {"channel.swiglu.*", "feed_forward.*", copied(), ""},
             {"channel.moe.gate.weight", "feed_forward.router.weight", copied(), ""}};
  append(m.table, base_table("input_layernorm", "pre_ff_layernorm"));
  append(m.table, gqa_rows());
  append(m.table, moe_rows("feed_forward.", "gate_proj", "up_proj", "down_proj", ""));
  return m;
}

}  // namespace

Family family_jamba() { return {"jamba", {"jamba"}, read}; }

}  // namespace braid
