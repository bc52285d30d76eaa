// Llama and Mistral. Files keep the two halves of a rotating head side by side.

#include "braid/importers/gguf_architecture.h"

namespace braid {
namespace {

void settings(GgufExchange& x, GgufModel& m) {
  x.sizes(m);
  x.heads(m);
  x.integer(m.vocab, "", "vocab_size", 0);
  x.says("hidden_act", "silu");
  x.attention_bias(m);
  x.always("mlp_bias", false);
  x.says("attention_dropout", 0.0);
  x.never("sliding_window");
  x.never("use_sliding_window");
  x.positions(m, {.divisors = true});
}

void tensors(GgufLinkList& l) {
  const GgufModel& m = l.model();
  l.llama_layers({.turned = true, .bias = m.attention_bias, .out_bias = m.attention_bias});
}

}  // namespace

GgufArchitecture gguf_llama() { return {"llama", {"llama", "mistral"}, settings, tensors}; }

}  // namespace braid
