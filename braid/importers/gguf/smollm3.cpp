// SmolLM3: Llama without positions in every fourth layer, which no key says.

#include "braid/importers/gguf_architecture.h"

namespace braid {
namespace {

void read_turning_layers(const GgufConfig& c, const GgufModel& m) {
  const Json* turns = c.find("no_rope_layers");
  if (turns == nullptr && c.integer("no_rope_layer_interval", 4) == 4) return;
  Json usual = Json::array();
  for (const bool still : every_nth_full(m.layers, 4)) usual.push(still ? 0 : 1);
  if (turns == nullptr || !(*turns == usual))
    c.fail("positions left out in other layers than every fourth have no GGUF form");
}

void settings(GgufExchange& x, GgufModel& m) {
  x.sizes(m);
  x.heads(m);
  x.integer(m.vocab, "", "vocab_size", 0);
  x.says("hidden_act", "silu");
  x.says("attention_dropout", 0.0);
  x.attention_bias(m);
  x.always("mlp_bias", false);
  x.always("use_sliding_window", false);
  x.says("no_rope_layer_interval", 4);
  if (x.from_config() != nullptr) read_turning_layers(*x.from_config(), m);
  x.positions(m, {.theta = 2e6});
}

void tensors(GgufLinkList& l) {
  const GgufModel& m = l.model();
  l.llama_layers({.turned = true, .bias = m.attention_bias, .out_bias = m.attention_bias});
}

}  // namespace

GgufArchitecture gguf_smollm3() { return {"smollm3", {"smollm3"}, settings, tensors}; }

}  // namespace braid
