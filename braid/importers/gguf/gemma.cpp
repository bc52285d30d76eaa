// Gemma 2 and 3: norms centred on zero, one before and one behind each sub-layer; every second or
// sixth layer sees everything.

#include "braid/base/format.h"
#include "braid/importers/gguf_architecture.h"

namespace braid {
namespace {

// The 27B model divides by the width of a head's share of the residual stream.
double usual_scalar(const GgufModel& m, int64_t layers_of_27b) {
  return static_cast<double>(m.layers == layers_of_27b ? m.width / m.heads : m.head_dim);
}

// query_pre_attn_scalar and the layers that see everything have no key that every reader asks for.
void require_usual(GgufExchange& x, const GgufModel& m, double scalar, int64_t every) {
  if (m.query_scalar != scalar)
    x.fail(format("query_pre_attn_scalar {} has no GGUF form, only {}", m.query_scalar, scalar));
  if (m.full != every_nth_full(m.layers, every))
    x.fail(format("layer_types other than every {} a full one have no GGUF form", every));
}

void read_layers(const GgufKeys& k, int64_t usual, GgufModel& m) {
  const GgufValue* pattern = k.find("attention.sliding_window_pattern");
  if (pattern != nullptr && pattern->kind() == GgufKind::kArray) {
    for (const int64_t slides : k.per_layer("attention.sliding_window_pattern", m.layers))
      m.full.push_back(slides == 0);
    return;
  }
  const int64_t every = k.integer("attention.sliding_window_pattern", usual);
  m.full = every_nth_full(m.layers, m.window == 0 ? 1 : every);
}

void common(GgufExchange& x, GgufModel& m) {
  x.sizes(m);
  x.heads(m);
  x.says("hidden_activation", "gelu_pytorch_tanh");
  x.says("attention_dropout", 0.0);
  x.always("attention_bias", false);
  x.never("use_sliding_window");
  x.never("mlp_bias");
  x.positions(m, {});
}

void gemma2_settings(GgufExchange& x, GgufModel& m) {
  common(x, m);
  x.integer(m.window, "sliding_window", "attention.sliding_window", 4096);
  x.layer_types(m, "sliding_attention", "", 2);
  if (const GgufKeys* k = x.from_file()) {
    read_layers(*k, 2, m);
    m.query_scalar = usual_scalar(m, 46);
  }
  x.real(m.query_scalar, "query_pre_attn_scalar", "", 256);
  if (const GgufConfig* c = x.from_config()) {
    require_usual(x, m, usual_scalar(m, 46), 2);
    if (c->says_null("attn_logit_softcapping") || c->says_null("final_logit_softcapping"))
      x.fail("gemma2 without its soft caps has no GGUF form");
  }
  x.real(m.score_softcap, "attn_logit_softcapping", "attn_logit_softcapping", 50);
  x.real(m.softcap, "final_logit_softcapping", "final_logit_softcapping", 30);
}

void gemma3_settings(GgufExchange& x, GgufModel& m) {
  common(x, m);
  x.optional(m.window, "sliding_window", "attention.sliding_window");
  x.layer_types(m, "sliding_attention", "sliding_window_pattern", 6);
  if (const GgufKeys* k = x.from_file()) {
    read_layers(*k, 6, m);
    m.query_scalar = usual_scalar(m, 62);
    const double scale = k->real("attention.scale", 0);
    if (scale > 0) m.query_scalar = 1 / (scale * scale);
    m.local_theta = k->real("rope.freq_base_swa", 10000);
  }
  x.real(m.local_theta, "rope_local_base_freq", "", m.local_theta);
  x.real(m.query_scalar, "query_pre_attn_scalar", "", 256);
  if (x.from_config() != nullptr) {
    require_usual(x, m, usual_scalar(m, 62), 6);
    if (m.local_theta != 10000)
      x.fail(format("rope_local_base_freq {} has no GGUF form, only 10000", m.local_theta));
  }
  if (m.softcap > 0 || x.from_config() != nullptr || x.from_file() != nullptr)
    x.real(m.softcap, "final_logit_softcapping", "final_logit_softcapping", 0);
}

void layers(GgufLinkList& l, bool head_norms) {
  const GgufModel& m = l.model();
  l.centred_norms = true;
  l.all([&](int64_t) {
    l.norm("attn_norm", "input_layernorm", m.width);
    l.attention({.head_norms = head_norms});
    l.norm("post_attention_norm", "post_attention_layernorm", m.width);
    l.norm("ffn_norm", "pre_feedforward_layernorm", m.width);
    l.norm("post_ffw_norm", "post_feedforward_layernorm", m.width);
    l.dense("mlp.", m.ffn);
  });
}

void gemma2_tensors(GgufLinkList& l) { layers(l, false); }
void gemma3_tensors(GgufLinkList& l) { layers(l, true); }

}  // namespace

GgufArchitecture gguf_gemma2() {
  return {"gemma2", {"gemma2"}, gemma2_settings, gemma2_tensors, true};
}
GgufArchitecture gguf_gemma3() {
  return {"gemma3", {"gemma3_text", "gemma3"}, gemma3_settings, gemma3_tensors, true};
}

}  // namespace braid
