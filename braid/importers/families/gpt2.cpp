// GPT-2: layer norms, learned positions, linears stored [in, out] with q, k and v in one.

#include "braid/base/format.h"
#include "braid/importers/common.h"

namespace braid {
namespace {

std::vector<TensorRow> table(int64_t width) {
  std::vector<TensorRow> rows = {
      {"embed_tokens.weight", "{P}wte.weight", copied(), ""},
      {"embed_positions.weight", "{P}wpe.weight", copied(), ""},
      {"norm.weight", "{P}ln_f.weight", copied(), ""},
      {"norm.bias", "{P}ln_f.bias", copied(), ""},
      {"lm_head.weight", "{H}lm_head.weight", copied(), ""},
      {"mixer.norm.*", "ln_1.*", copied(), ""},
      {"channel.norm.*", "ln_2.*", copied(), ""},
      {"mixer.gqa.o_proj.weight", "attn.c_proj.weight", transposed(), ""},
      {"mixer.gqa.o_proj.bias", "attn.c_proj.bias", copied(), ""},
      {"channel.mlp.up_proj.weight", "mlp.c_fc.weight", transposed(), ""},
      {"channel.mlp.up_proj.bias", "mlp.c_fc.bias", copied(), ""},
      {"channel.mlp.down_proj.weight", "mlp.c_proj.weight", transposed(), ""},
      {"channel.mlp.down_proj.bias", "mlp.c_proj.bias", copied(), ""}};
  const std::vector<int64_t> parts = {width, width, width};
  const char* const names[] = {"q_proj", "k_proj", "v_proj"};
  for (size_t i = 0; i < 3; ++i) {
    const std::string path = format("mixer.gqa.{}.", names[i]);
    rows.push_back({path + "weight", "attn.c_attn.weight", part_of(parts, i, true), ""});
    rows.push_back({path + "bias", "attn.c_attn.bias", part_of(parts, i), ""});
  }
  return rows;
}

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  ModelSettings& s = m.settings;
  s.width = c.integer({"n_embd", "hidden_size"}, 768, 1 << 20);
  s.vocab = c.integer("vocab_size", 50257);
  s.positions = c.integer({"n_positions", "max_position_embeddings"}, 1024);
  c.ignore({"n_ctx", "resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_type", "summary_use_proj",
            "summary_activation", "summary_proj_to_labels", "summary_first_dropout",
            "add_cross_attention", "predict_special_tokens"});
  c.require_integer("n_special", 0);
  m.layers = c.integer({"n_layer", "num_hidden_layers"}, 12, kMostLayers);
  s.heads = c.integer({"n_head", "num_attention_heads"}, 12, 1 << 16);
  if (s.width < 1 || s.vocab < 2 || s.positions < 1 || m.layers < 1 || s.heads < 1 ||
      s.width % s.heads != 0)
    c.fail(format("n_embd = {}, n_head = {}, n_layer = {}, n_positions = {}, vocab_size = {}",
                  s.width, s.heads, m.layers, s.positions, s.vocab));
  s.head_dim = s.width / s.heads;
  s.max_position_embeddings = s.positions;
  s.norm = NormKind::kLayer;
  s.norm_eps = c.real("layer_norm_epsilon", 1e-5);
  m.tie_given = c.has("tie_word_embeddings");
  s.tie_embeddings = c.boolean("tie_word_embeddings", true);
  c.require_text("activation_function", {"gelu_new", "gelu_pytorch_tanh"});
  c.require_boolean("scale_attn_weights", true);
  c.require_boolean("scale_attn_by_inverse_layer_idx", false);
  c.require_boolean("reorder_and_upcast_attn", false);
  GqaSettings gqa;
  gqa.heads = gqa.kv_heads = s.heads;
  gqa.head_dim = s.head_dim;
  gqa.rope.on = false;
  gqa.bias = "qkvo";
  OptionList mlp;
  mlp.add("ffn", c.integer("n_inner", 4 * s.width), 0);
  mlp.add("act", std::string("gelu_tanh"), "");
  mlp.add("bias", true, false);
  set_stack(
      m, [&](int64_t) { return gqa_layer(gqa, s); }, [&](int64_t) { return mlp.layer("mlp"); });
  m.table = table(s.width);
  m.layers_name = "h.";
  m.prefix = "";
  return m;
}

}  // namespace

Family family_gpt2() { return {"gpt2", {"gpt2"}, read}; }

}  // namespace braid
