#include "braid/importers/gguf_links.h"

#include <algorithm>

#include "braid/base/format.h"

namespace braid {
namespace {

int64_t rows_of(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) n *= shape[i];
  return n;
}

}  // namespace

int64_t GgufLink::rows() const { return rows_of(shape); }

void to_file_columns(const GgufLink& link, float* row) {
  const std::vector<float> was(row, row + link.columns());
  const int64_t blocks = std::ssize(link.columns_from), width = link.columns() / blocks;
  for (int64_t b = 0; b < blocks; ++b)
    std::copy_n(was.data() + link.columns_from[static_cast<size_t>(b)] * width, width,
                row + b * width);
}

void from_file_columns(const GgufLink& link, float* row) {
  const std::vector<float> was(row, row + link.columns());
  const int64_t blocks = std::ssize(link.columns_from), width = link.columns() / blocks;
  for (int64_t b = 0; b < blocks; ++b)
    std::copy_n(was.data() + b * width, width,
                row + link.columns_from[static_cast<size_t>(b)] * width);
}

void GgufLinkList::all(FunctionRef<void(int64_t)> layer) {
  add("token_embd.weight", "model.embed_tokens.weight", {m.vocab, m.width});
  layers(layer);
  add("output_norm.weight", "model.norm.weight", {m.width}).value =
      centred_norms ? GgufLink::Value::kPlusOne : GgufLink::Value::kSame;
  head();
}

void GgufLinkList::layers(FunctionRef<void(int64_t)> layer) {
  for (i_ = 0; i_ < m.layers; ++i_) layer(i_);
}

void GgufLinkList::head() {
  if (!m.tied) add("output.weight", "lm_head.weight", {m.vocab, m.width});
}

std::string GgufLinkList::g(const std::string& name) const { return format("blk.{}.{}", i_, name); }
std::string GgufLinkList::h(const std::string& name) const {
  return format("model.{}{}.{}", layers_name, i_, name);
}

GgufLink& GgufLinkList::add(GgufLink link) {
  out_.push_back(std::move(link));
  return out_.back();
}

GgufLink& GgufLinkList::add(const std::string& gguf, const std::string& hf, Shape shape,
                            Shape hf_shape) {
  if (hf_shape.empty()) hf_shape = shape;
  GgufLink link;
  link.gguf = gguf;
  // A vector is one row, whatever shape the checkpoint gives it.
  link.shape = std::move(shape);
  link.pieces.push_back({hf, std::move(hf_shape), 0, 0, rows_of(link.shape), 1});
  link.keep_f32 = link.shape.size() == 1;
  return add(std::move(link));
}

GgufLink& GgufLinkList::matrix(const std::string& gguf, const std::string& hf, int64_t rows,
                               int64_t columns) {
  return add(g(gguf) + ".weight", h(hf) + ".weight", {rows, columns});
}

GgufLink& GgufLinkList::norm(const std::string& gguf, const std::string& hf, int64_t n) {
  GgufLink& link = add(g(gguf) + ".weight", h(hf) + ".weight", {n});
  if (centred_norms) link.value = GgufLink::Value::kPlusOne;
  return link;
}

GgufLink& GgufLinkList::bias(const std::string& gguf, const std::string& hf, int64_t n) {
  return add(g(gguf) + ".bias", h(hf) + ".bias", {n});
}

void GgufLinkList::attention(const Attention& a) {
  const int64_t q = m.heads * m.head_dim, kv = m.kv_heads * m.head_dim;
  GgufLink& wq = matrix("attn_q", "self_attn.q_proj", a.gate ? 2 * q : q, m.width);
  if (a.turned) turned(wq, m.heads);
  GgufLink& wk = matrix("attn_k", "self_attn.k_proj", kv, m.width);
  if (a.turned) turned(wk, m.kv_heads);
  matrix("attn_v", "self_attn.v_proj", kv, m.width);
  if (a.bias) {
    turned_bias("attn_q", "self_attn.q_proj", q, m.heads, a.turned);
    turned_bias("attn_k", "self_attn.k_proj", kv, m.kv_heads, a.turned);
    bias("attn_v", "self_attn.v_proj", kv);
  }
  if (a.out_bias) bias("attn_output", "self_attn.o_proj", m.width);
  matrix("attn_output", "self_attn.o_proj", m.width, q);
  if (!a.head_norms && !a.whole_norms) return;
  norm("attn_q_norm", "self_attn.q_norm", a.whole_norms ? q : m.head_dim);
  norm("attn_k_norm", "self_attn.k_norm", a.whole_norms ? kv : m.head_dim);
}

// The file's row 2 i + half of a head is the checkpoint's row half * d / 2 + i.
void GgufLinkList::turned(GgufLink& link, int64_t heads) {
  const GgufLink::Piece whole = link.pieces[0];
  const int64_t d = whole.count / heads;
  link.pieces.clear();
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t half = 0; half < 2; ++half) {
      link.pieces.push_back(
          {whole.hf, whole.hf_shape, head * d + half, head * d + half * (d / 2), d / 2, 2});
    }
  }
}

void GgufLinkList::turned_bias(const char* gguf, const std::string& hf, int64_t n, int64_t heads,
                               bool turns) {
  GgufLink& link = bias(gguf, hf, n);
  if (!turns) return;
  link.shape = {n, 1};
  link.by_element = true;
  link.pieces[0].count = n;
  turned(link, heads);
}

void GgufLinkList::llama_layers(const Attention& a) {
  all([&](int64_t) {
    norm("attn_norm", "input_layernorm", m.width);
    attention(a);
    norm("ffn_norm", "post_attention_layernorm", m.width);
    dense("mlp.", m.ffn);
  });
}

void GgufLinkList::dense(const std::string& at, int64_t ffn, const std::string& suffix) {
  matrix("ffn_gate" + suffix, at + "gate_proj", ffn, m.width);
  matrix("ffn_up" + suffix, at + "up_proj", ffn, m.width);
  matrix("ffn_down" + suffix, at + "down_proj", m.width, ffn);
}

void GgufLinkList::experts(const Experts& e) {
  matrix("ffn_gate_inp", e.at + "gate", m.experts, m.width).keep_f32 = true;
  if (!e.correction.empty()) add(g("exp_probs_b.bias"), h(e.at + e.correction), {m.experts});
  stack("ffn_gate_exps", e.at, e.gate, m.expert_ffn, m.width);
  stack("ffn_up_exps", e.at, e.up, m.expert_ffn, m.width);
  stack("ffn_down_exps", e.at, e.down, m.width, m.expert_ffn);
  if (m.shared_ffn == 0) return;
  if (!e.shared_gate.empty())
    add(g("ffn_gate_inp_shexp.weight"), h(e.at + e.shared_gate + ".weight"), {m.width},
        {1, m.width});
  dense(e.at + e.shared + ".", m.shared_ffn, "_shexp");
}

void GgufLinkList::stack(const std::string& gguf, const std::string& at, const std::string& name,
                         int64_t rows, int64_t columns) {
  GgufLink& link = matrix(gguf, "", rows, columns);
  link.shape = {m.experts, rows, columns};
  link.pieces.clear();
  for (int64_t e = 0; e < m.experts; ++e) {
    link.pieces.push_back(
        {h(format("{}experts.{}.{}.weight", at, e, name)), {rows, columns}, e * rows, 0, rows, 1});
  }
}

void GgufLinkList::latent_attention() {
  const int64_t q_dim = m.nope_dim + m.rope_dim, head = m.nope_dim + m.v_dim;
  if (m.q_lora > 0) {
    matrix("attn_q_a", "self_attn.q_a_proj", m.q_lora, m.width);
    add(g("attn_q_a_norm.weight"), h("self_attn.q_a_layernorm.weight"), {m.q_lora});
    matrix("attn_q_b", "self_attn.q_b_proj", m.heads * q_dim, m.q_lora);
  } else {
    matrix("attn_q", "self_attn.q_proj", m.heads * q_dim, m.width);
  }
  matrix("attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa", m.kv_lora + m.rope_dim, m.width);
  add(g("attn_kv_a_norm.weight"), h("self_attn.kv_a_layernorm.weight"), {m.kv_lora});
  const std::string hf = h("self_attn.kv_b_proj.weight");
  const Shape hf_shape = {m.heads * head, m.kv_lora};
  GgufLink k, v;
  k.gguf = g("attn_k_b.weight");
  k.shape = {m.heads, m.kv_lora, m.nope_dim};
  k.transposed = true;
  k.to_rows = m.kv_lora;
  v.gguf = g("attn_v_b.weight");
  v.shape = {m.heads, m.v_dim, m.kv_lora};
  for (int64_t i = 0; i < m.heads; ++i) {
    k.pieces.push_back({hf, hf_shape, i * m.kv_lora, i * head, m.nope_dim, 1});
    v.pieces.push_back({hf, hf_shape, i * m.v_dim, i * head + m.nope_dim, m.v_dim, 1});
  }
  add(std::move(k));
  add(std::move(v));
  matrix("attn_output", "self_attn.o_proj", m.width, m.heads * m.v_dim);
}

}  // namespace braid
