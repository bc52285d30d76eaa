// DeepSeek V3, V3.1 and R1, Kimi K2: latent attention, experts chosen within groups, the first
// layers dense. The layer behind the last one predicts the token after the next and is left out.

#include "braid/base/format.h"
#include "braid/importers/common.h"

namespace braid {
namespace {

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.width = 7168, .layers = 61, .vocab = 129280, .max_positions = 4096}, m);
  m.spare_layers = true;
  c.require_text("hidden_act", {"silu"});
  const int64_t heads = c.integer("num_attention_heads", 128, 1 << 16);
  const int64_t kv_rank = c.integer("kv_lora_rank", 512), nope = c.integer("qk_nope_head_dim", 128);
  const int64_t rope = c.integer("qk_rope_head_dim", 64), value = c.integer("v_head_dim", 128);
  const int64_t q_rank = c.explicit_null("q_lora_rank") ? 0 : c.integer("q_lora_rank", 1536);
  if (heads < 1 || kv_rank < 1 || nope < 1 || rope < 1 || value < 1)
    c.fail(
        "one of num_attention_heads, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim and "
        "v_head_dim is 0");
  if (const auto whole = c.maybe_integer({"qk_head_dim"}); whole && *whole != nope + rope)
    c.fail(format("qk_head_dim is {}, not qk_nope_head_dim + qk_rope_head_dim = {}", *whole,
                  nope + rope));
  c.ignore({"num_key_value_heads", "head_dim"});  // every head has its own; the rotated part's
  m.settings.heads = heads;
  m.settings.head_dim = nope + rope;
  const RopeSettings positions = read_rope(c, {.max_positions = 4096});
  const bool interleaved = c.boolean("rope_interleave", true);
  const bool bias = c.boolean("attention_bias", false);
  MoeSettings moe;
  read_experts(c, 256, 8, c.integer("moe_intermediate_size", 2048), moe);
  read_sigmoid_router(c, {.groups = 8, .topk_groups = 4, .scale = 2.5}, moe);
  const int64_t first = c.integer("first_k_dense_replace", 3);
  if (c.integer("moe_layer_freq", 1) != 1) c.fail("moe_layer_freq is not 1");
  const int64_t dense = c.integer("intermediate_size", 18432);
  set_stack(
      m,
      [&](int64_t) {
        return mla_layer(heads, q_rank, kv_rank, nope, rope, value, positions, interleaved, bias);
      },
      [&](int64_t i) { return i >= first ? moe_layer(moe) : swiglu_layer(dense); });
  m.table = base_table();
  m.table.push_back({"mixer.mla.*", "self_attn.*", copied(), ""});
  append(m.table, swiglu_rows());
  append(m.table, moe_rows());
  return m;
}

}  // namespace

Family family_deepseek_v3() { return {"deepseek_v3", {"deepseek_v3", "kimi_k2"}, read}; }

}  // namespace braid
