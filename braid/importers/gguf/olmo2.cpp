// OLMo 2 and, with windows, OLMo 3: norms behind the sub-layers, one over all of q and of k.

#include "braid/base/format.h"
#include "braid/importers/gguf_architecture.h"

namespace braid {
namespace {

void read_layers(const GgufKeys& k, GgufModel& m) {
  const GgufValue* pattern = k.find("attention.sliding_window_pattern");
  if (pattern == nullptr || pattern->kind() != GgufKind::kArray) {
    m.full = every_nth_full(m.layers, k.integer("attention.sliding_window_pattern", 4));
    return;
  }
  for (const int64_t slides : k.per_layer("attention.sliding_window_pattern", m.layers))
    m.full.push_back(slides == 0);
}

void settings(GgufExchange& x, GgufModel& m) {
  x.sizes(m, {.eps = 1e-5});
  x.heads(m);
  if (m.head_dim * m.heads != m.width)
    x.fail(format("{} heads of {} in a width of {} have no form", m.heads, m.head_dim, m.width));
  x.says("hidden_act", "silu");
  x.says("attention_dropout", 0.0);
  x.always("attention_bias", false);
  x.positions(m, {});
  if (x.from_config() != nullptr && x.from_config()->text("model_type", "") == "olmo3")
    m.window = x.from_config()->integer("sliding_window", 4096);
  if (x.from_file() != nullptr) m.window = x.from_file()->integer("attention.sliding_window", 0);
  if (m.window == 0) return;
  x.says("model_type", "olmo3");
  x.says("architectures", Json::array({"Olmo3ForCausalLM"}));
  x.integer(m.window, "sliding_window", "attention.sliding_window", m.window);
  x.layer_types(m, "sliding_attention", "", 4);
  if (x.from_file() != nullptr) read_layers(*x.from_file(), m);
  if (x.from_config() != nullptr && m.full != every_nth_full(m.layers, 4))
    x.fail("layer_types other than every fourth a full one have no GGUF form");
}

void tensors(GgufLinkList& l) {
  const GgufModel& m = l.model();
  l.all([&](int64_t) {
    l.attention({.whole_norms = true});
    l.norm("post_attention_norm", "post_attention_layernorm", m.width);
    l.dense("mlp.", m.ffn);
    l.norm("post_ffw_norm", "post_feedforward_layernorm", m.width);
  });
}

}  // namespace

GgufArchitecture gguf_olmo2() { return {"olmo2", {"olmo2", "olmo3"}, settings, tensors}; }

}  // namespace braid
