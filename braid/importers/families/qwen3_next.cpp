// Qwen3-Next and Qwen3-Coder-Next: Gated DeltaNet with its projections interleaved by key head,
// gated attention, experts with a gated shared one.

#include "braid/base/format.h"
#include "braid/importers/families/qwen_linear.h"

namespace braid {

LayerSpec QwenLinear::mixer(int64_t layer, const ModelSettings& settings) const {
  return full[static_cast<size_t>(layer)] ? gqa_layer(gqa, settings) : gdn;
}

QwenLinear read_qwen_linear(ConfigReader& c, FamilyModel& m, int64_t kv_heads) {
  m.settings.norm = NormKind::kRms1p;
  c.require_text("hidden_act", {"silu"});
  QwenLinear out;
  read_heads(c, {.heads = 16, .kv_heads = kv_heads, .head_dim = 256}, m, out.gqa);
  out.gqa.rope = read_rope(c, {.partial = 0.25, .max_positions = 32768});
  out.gqa.qk_norm = "head";
  out.gqa.one_plus = true;
  out.gqa.gate = true;
  c.require_boolean("attn_output_gate", true);
  out.gqa.bias = c.boolean("attention_bias", false) ? "qkvo" : "none";
  out.key_heads = c.integer("linear_num_key_heads", 16, 1 << 16);
  out.value_heads = c.integer("linear_num_value_heads", 32, 1 << 16);
  out.key_dim = c.integer("linear_key_head_dim", 128, 1 << 16);
  out.value_dim = c.integer("linear_value_head_dim", 128, 1 << 16);
  if (out.key_heads < 1 || out.value_heads < 1 || out.key_dim < 1 || out.value_dim < 1 ||
      out.value_heads % out.key_heads != 0)
    c.fail(format("linear_num_value_heads = {} of {} on linear_num_key_heads = {} of {}",
                  out.value_heads, out.value_dim, out.key_heads, out.key_dim));
  c.require_text("mamba_ssm_dtype", {"float32"});
  c.require_text("output_gate_type", {"swish", "silu"});  // of the delta layers
  c.require_boolean("use_sliding_window", false);
  OptionList gdn;
  gdn.add("heads", out.key_heads, -1);
  gdn.add("head_dim", out.key_dim, -1);
  gdn.add("v_heads", out.value_heads, out.key_heads);
  gdn.add("value_dim", out.value_dim, out.key_dim);
  gdn.add("conv", c.integer("linear_conv_kernel_dim", 4, 1 << 16), 4);
  out.gdn = gdn.layer("gdn");
  const int64_t interval = c.integer("full_attention_interval", 4);
  if (interval < 1) c.fail("full_attention_interval is 0");
  const std::vector<std::string> types =
      read_layer_types(c, m.layers, {"full_attention", "linear_attention"});
  for (int64_t i = 0; i < m.layers; ++i)
    out.full.push_back(types.empty() ? (i + 1) % interval == 0
                                     : types[static_cast<size_t>(i)] == "full_attention");
  return out;
}

namespace {

// Of every key head: its q, its k, the v of its value heads, their z; and the b, then the a of its
// value heads.
std::vector<TensorRow> delta_rows(const QwenLinear& q) {
  const int64_t ratio = q.value_heads / q.key_heads, v = ratio * q.value_dim;
  const std::vector<int64_t> qkvz = {q.key_dim, q.key_dim, v, v}, ba = {ratio, ratio};
  const std::string in = "linear_attn.in_proj_";
  return {{"mixer.gdn.in_proj_qkv.weight", in + "qkvz.weight",
           grouped(q.key_heads, qkvz, {0, 1, 2}), ""},
          {"mixer.gdn.in_proj_z.weight", in + "qkvz.weight", grouped(q.key_heads, qkvz, {3}), ""},
          {"mixer.gdn.in_proj_b.weight", in + "ba.weight", grouped(q.key_heads, ba, {0}), ""},
          {"mixer.gdn.in_proj_a.weight", in + "ba.weight", grouped(q.key_heads, ba, {1}), ""},
          {"mixer.gdn.*", "linear_attn.*", copied(), ""}};
}

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.width = 2048, .layers = 48, .vocab = 151936, .max_positions = 32768}, m);
  const QwenLinear q = read_qwen_linear(c, m, 2);
  MoeSettings moe;
  read_experts(c, 512, 10, c.integer("moe_intermediate_size", 512), moe);
  moe.renormalise = c.boolean("norm_topk_prob", true);
  moe.shared = c.integer("shared_expert_intermediate_size", 512);
  moe.shared_gate = moe.shared > 0;
  const std::vector<bool> sparse = qwen_sparse_layers(c, m.layers);
  const int64_t dense = c.integer("intermediate_size", 5632);
  set_stack(
      m, [&](int64_t i) { return q.mixer(i, m.settings); },
      [&](int64_t i) {
        return sparse[static_cast<size_t>(i)] ? moe_layer(moe) : swiglu_layer(dense);
      });
  m.table = base_table();
  append(m.table, gqa_rows());
  append(m.table, delta_rows(q));
  append(m.table, swiglu_rows());
  append(m.table, moe_rows("mlp.", "gate_proj", "up_proj", "down_proj", "shared_expert"));
  return m;
}

}  // namespace

Family family_qwen3_next() { return {"qwen3_next", {"qwen3_next"}, read}; }

}  // namespace braid
