// Gemma 3: norms centred on zero, one before and one behind each sub-layer; every sixth layer sees
// everything.

#include "braid/base/format.h"
#include "braid/importers/gguf_architecture.h"

namespace braid {
namespace {

// The 27B model divides by the width of a head's share of the residual stream.
double usual_scalar(const GgufModel& m, int64_t layers_of_27b) {
  return static_cast<double>(m.layers == layers_of_27b ? m.width / m.heads : m.head_dim);
}

// The settings that have no key, or one that not every reader asks for.
void require_usual(GgufExchange& x, const GgufModel& m) {
  const double scalar = usual_scalar(m, 62);
  if (m.query_scalar != scalar)
    x.fail(format("query_pre_attn_scalar {} has no GGUF form, only {}", m.query_scalar, scalar));
  if (m.local_theta != 10000)
    x.fail(format("rope_local_base_freq {} has no GGUF form, only 10000", m.local_theta));
  if (m.full != every_nth_full(m.layers, 6))
    x.fail("layer_types other than every sixth a full one have no GGUF form");
}

void read_layers(const GgufKeys& k, GgufModel& m) {
  const GgufValue* pattern = k.find("attention.sliding_window_pattern");
  if (pattern != nullptr && pattern->kind() == GgufKind::kArray) {
    for (const int64_t slides : k.per_layer("attention.sliding_window_pattern", m.layers))
      m.full.push_back(slides == 0);
    return;
  }
  const int64_t every = k.integer("attention.sliding_window_pattern", 6);
  m.full = every_nth_full(m.layers, m.window == 0 ? 1 : every);
}

void settings(GgufExchange& x, GgufModel& m) {
  x.sizes(m);
  x.heads(m);
  x.says("hidden_activation", "gelu_pytorch_tanh");
  x.says("attention_dropout", 0.0);
  x.always("attention_bias", false);
  x.never("use_sliding_window");
  x.never("mlp_bias");
  x.positions(m, {});
  x.optional(m.window, "sliding_window", "attention.sliding_window");
  x.layer_types(m, "sliding_attention", "sliding_window_pattern", 6);
  if (const GgufKeys* k = x.from_file()) {
    read_layers(*k, m);
    m.query_scalar = usual_scalar(m, 62);
    const double scale = k->real("attention.scale", 0);
    if (scale > 0) m.query_scalar = 1 / (scale * scale);
    m.local_theta = k->real("rope.freq_base_swa", 10000);
  }
  x.real(m.local_theta, "rope_local_base_freq", "", m.local_theta);
  x.real(m.query_scalar, "query_pre_attn_scalar", "", 256);
  if (x.from_config() != nullptr) require_usual(x, m);
  if (m.softcap > 0 || x.from_config() != nullptr || x.from_file() != nullptr)
    x.real(m.softcap, "final_logit_softcapping", "final_logit_softcapping", 0);
}

void tensors(GgufLinkList& l) {
  const GgufModel& m = l.model();
  l.centred_norms = true;
  l.all([&](int64_t) {
    l.norm("attn_norm", "input_layernorm", m.width);
    l.attention({.head_norms = true});
    l.norm("post_attention_norm", "post_attention_layernorm", m.width);
    l.norm("ffn_norm", "pre_feedforward_layernorm", m.width);
    l.norm("post_ffw_norm", "post_feedforward_layernorm", m.width);
    l.dense("mlp.", m.ffn);
  });
}

}  // namespace

GgufArchitecture gguf_gemma3() {
  return {"gemma3", {"gemma3_text", "gemma3"}, settings, tensors, true};
}

}  // namespace braid
