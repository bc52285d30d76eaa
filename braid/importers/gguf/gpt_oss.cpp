// gpt-oss: the checkpoint has gate and up in turn, a file apart; experts are [in, out] or, in
// MXFP4, [out, in] as in a file.

#include "braid/importers/gguf_architecture.h"

namespace braid {
namespace {

// Every second layer slides, the first one does.
std::vector<bool> second_full(int64_t layers) { return every_nth_full(layers, 2); }

// A config.json without a word stretches positions, a file does not.
void say_scaling(GgufExchange& x) {
  const GgufConfig* c = x.from_config();
  if (c != nullptr && c->find("rope_scaling") == nullptr && c->find("rope_parameters") == nullptr)
    x.fail("gpt-oss without rope_scaling has no form; its class takes YaRN's factor 32, say that");
  Json* made = x.to_config();
  if (made != nullptr && made->find("rope_scaling") == nullptr)
    made->set("rope_scaling", Json::object({{"rope_type", "default"}}));
}

void settings(GgufExchange& x, GgufModel& m) {
  x.sizes(m, {.eps = 1e-5});
  x.heads(m);
  x.says("hidden_act", "silu");
  x.says("attention_dropout", 0.0);
  x.attention_bias(m, true);
  x.positions(m, {.theta = 150000, .truncated_yarn = false});
  say_scaling(x);
  x.integer(m.window, "sliding_window", "attention.sliding_window");
  x.layer_types(m, "sliding_attention", "", 2);
  if (x.from_file() != nullptr) m.full = second_full(m.layers);
  if (m.full != second_full(m.layers) || !m.attention_bias)
    x.fail(
        "gpt-oss without biases, or with other layers than sliding and full ones in turn, has no "
        "form");
  x.integer(m.experts, "num_local_experts", "expert_count");
  x.integer(m.used, "num_experts_per_tok", "expert_used_count");
  x.integer(m.expert_ffn, "", "expert_feed_forward_length");
  if (x.from_config() != nullptr) m.expert_ffn = m.ffn;
  x.always("swiglu_limit", 7.0);
}

// Rows 0 (gate) or 1 (up) of each pair of the checkpoint's.
void half(GgufLinkList& l, const char* gguf, int64_t which) {
  const GgufModel& m = l.model();
  const int64_t rows = m.experts * m.expert_ffn;
  GgufLink weight, bias;
  weight.gguf = l.g(gguf) + ".weight";
  weight.shape = {m.experts, m.expert_ffn, m.width};
  weight.output_major = true;
  weight.pieces.push_back({l.h("mlp.experts.gate_up_proj"),
                           {m.experts, 2 * m.expert_ffn, m.width},
                           0,
                           which,
                           rows,
                           1,
                           2});
  bias.gguf = l.g(gguf) + ".bias";
  bias.shape = {m.experts, m.expert_ffn, 1};
  bias.by_element = bias.keep_f32 = true;
  bias.pieces.push_back(
      {l.h("mlp.experts.gate_up_proj_bias"), {m.experts, 2 * m.expert_ffn}, 0, which, rows, 1, 2});
  l.add(std::move(weight));
  l.add(std::move(bias));
}

void experts(GgufLinkList& l) {
  const GgufModel& m = l.model();
  l.matrix("ffn_gate_inp", "mlp.router", m.experts, m.width).keep_f32 = true;
  l.bias("ffn_gate_inp", "mlp.router", m.experts);
  half(l, "ffn_gate_exps", 0);
  half(l, "ffn_up_exps", 1);
  l.add(l.g("ffn_down_exps.weight"), l.h("mlp.experts.down_proj"),
        {m.experts, m.width, m.expert_ffn})
      .output_major = true;
  l.add(l.g("ffn_down_exps.bias"), l.h("mlp.experts.down_proj_bias"), {m.experts, m.width})
      .keep_f32 = true;
}

void tensors(GgufLinkList& l) {
  const GgufModel& m = l.model();
  l.all([&](int64_t) {
    l.norm("attn_norm", "input_layernorm", m.width);
    l.attention({.bias = true, .out_bias = true});
    l.add(l.g("attn_sinks.weight"), l.h("self_attn.sinks"), {m.heads});
    l.norm("post_attention_norm", "post_attention_layernorm", m.width);
    experts(l);
  });
}

}  // namespace

GgufArchitecture gguf_gpt_oss() { return {"gpt-oss", {"gpt_oss"}, settings, tensors}; }

}  // namespace braid
