// GPT-2: learned positions, layer norms, linears kept [in, out] with q, k and v in one.

#include "braid/base/format.h"
#include "braid/importers/gguf_architecture.h"

namespace braid {
namespace {

void settings(GgufExchange& x, GgufModel& m) {
  x.sizes(m, {.context = "n_positions",
              .eps = 1e-5,
              .layers = "n_layer",
              .width = "n_embd",
              .heads = "n_head",
              .ffn = "n_inner",
              .eps_key = "layer_norm_epsilon",
              .eps_in_file = "attention.layer_norm_epsilon"});
  if (m.ffn == 0) m.ffn = 4 * m.width;
  m.kv_heads = m.heads;
  m.head_dim = m.heads > 0 ? m.width / m.heads : 0;
  x.says("activation_function", "gelu_new");
  x.always("scale_attn_by_inverse_layer_idx", false);
}

GgufLink& linear(GgufLinkList& l, const char* gguf, const char* hf, int64_t rows, int64_t columns) {
  l.bias(gguf, hf, rows);
  GgufLink& link = l.matrix(gguf, hf, rows, columns);
  link.output_major = true;
  return link;
}

void norm(GgufLinkList& l, const char* gguf, const char* hf) {
  l.norm(gguf, hf, l.model().width);
  l.bias(gguf, hf, l.model().width);
}

void tensors(GgufLinkList& l) {
  const GgufModel& m = l.model();
  l.layers_name = "h.";
  l.add("token_embd.weight", "model.wte.weight", {m.vocab, m.width});
  l.add("position_embd.weight", "model.wpe.weight", {m.context, m.width}).keep_f32 = true;
  l.layers([&](int64_t) {
    norm(l, "attn_norm", "ln_1");
    linear(l, "attn_qkv", "attn.c_attn", 3 * m.width, m.width);
    linear(l, "attn_output", "attn.c_proj", m.width, m.width);
    norm(l, "ffn_norm", "ln_2");
    linear(l, "ffn_up", "mlp.c_fc", m.ffn, m.width);
    linear(l, "ffn_down", "mlp.c_proj", m.width, m.ffn);
  });
  l.add("output_norm.weight", "model.ln_f.weight", {m.width});
  l.add("output_norm.bias", "model.ln_f.bias", {m.width});
  l.head();
}

}  // namespace

GgufArchitecture gguf_gpt2() { return {"gpt2", {"gpt2"}, settings, tensors}; }

}  // namespace braid
