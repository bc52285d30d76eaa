#include "braid/importers/gguf_links.h"

#include "braid/base/format.h"

namespace braid {
namespace {

using Value = GgufLink::Value;
using Shape = std::vector<int64_t>;

int64_t rows_of(const Shape& shape) {
  int64_t n = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) n *= shape[i];
  return n;
}

class Links {
 public:
  explicit Links(const GgufModel& model) : m(model) {}

  std::vector<GgufLink> all() {
    add("token_embd.weight", "model.embed_tokens.weight", {m.vocab, m.width});
    for (int64_t i = 0; i < m.layers; ++i) layer(i);
    norm("output_norm.weight", "model.norm.weight", m.width);
    if (!m.tied) add("output.weight", "lm_head.weight", {m.vocab, m.width});
    return std::move(out_);
  }

 private:
  GgufLink& add(const std::string& gguf, const std::string& hf, Shape shape, Shape hf_shape = {}) {
    if (hf_shape.empty()) hf_shape = shape;
    GgufLink link;
    link.gguf = gguf;
    // A vector is one row, whatever shape the checkpoint gives it.
    link.shape = std::move(shape);
    link.pieces.push_back({hf, std::move(hf_shape), 0, 0, rows_of(link.shape), 1});
    link.keep_f32 = link.shape.size() == 1;
    out_.push_back(std::move(link));
    return out_.back();
  }

  // Norms are centred on zero in Gemma and Qwen3-Next.
  void norm(const std::string& gguf, const std::string& hf, int64_t n) {
    const bool centred = m.arch == "gemma3" || m.arch == "qwen3next";
    add(gguf, hf, {n}).value = centred ? Value::kPlusOne : Value::kSame;
  }

  // A matrix of this layer under its GGUF and its checkpoint name.
  GgufLink& matrix(const char* gguf, const std::string& hf, int64_t rows, int64_t columns) {
    return add(g(gguf) + ".weight", h(hf) + ".weight", {rows, columns});
  }
  void bias(const char* gguf, const std::string& hf, int64_t n) {
    add(g(gguf) + ".bias", h(hf) + ".bias", {n});
  }

  std::string g(const char* name) const { return format("blk.{}.{}", i_, name); }
  std::string h(const std::string& name) const { return format("model.layers.{}.{}", i_, name); }

  void layer(int64_t i) {
    i_ = i;
    norm(g("attn_norm.weight"), h("input_layernorm.weight"), m.width);
    if (m.arch == "kimi-linear")
      m.attends(i) ? latent() : kda();
    else if (m.arch == "qwen3next" && !m.attends(i))
      gated_delta();
    else
      attention();
    if (m.arch == "gemma3") {
      norm(g("post_attention_norm.weight"), h("post_attention_layernorm.weight"), m.width);
      norm(g("ffn_norm.weight"), h("pre_feedforward_layernorm.weight"), m.width);
      norm(g("post_ffw_norm.weight"), h("post_feedforward_layernorm.weight"), m.width);
    } else {
      const char* name = m.arch == "qwen3next" ? "post_attention_norm.weight" : "ffn_norm.weight";
      norm(g(name), h("post_attention_layernorm.weight"), m.width);
    }
    if (m.experts > 0 && i >= m.dense_lead)
      experts();
    else
      dense("mlp.", "ffn_gate", "ffn_up", "ffn_down", m.ffn);
  }

  void attention() {
    const int64_t q = m.heads * m.head_dim, kv = m.kv_heads * m.head_dim;
    const int64_t q_rows = m.arch == "qwen3next" ? 2 * q : q;  // with its gate
    turned(matrix("attn_q", "self_attn.q_proj", q_rows, m.width), m.heads);
    turned(matrix("attn_k", "self_attn.k_proj", kv, m.width), m.kv_heads);
    matrix("attn_v", "self_attn.v_proj", kv, m.width);
    if (m.arch == "qwen2" || m.attention_bias) {
      turned_vector("attn_q", "self_attn.q_proj", q, m.heads);
      turned_vector("attn_k", "self_attn.k_proj", kv, m.kv_heads);
      bias("attn_v", "self_attn.v_proj", kv);
      if (m.attention_bias) bias("attn_output", "self_attn.o_proj", m.width);
    }
    matrix("attn_output", "self_attn.o_proj", m.width, q);
    if (m.arch == "qwen3" || m.arch == "qwen3moe" || m.arch == "gemma3" || m.arch == "qwen3next") {
      norm(g("attn_q_norm.weight"), h("self_attn.q_norm.weight"), m.head_dim);
      norm(g("attn_k_norm.weight"), h("self_attn.k_norm.weight"), m.head_dim);
    }
  }

  // Files of "llama" keep the two halves of a rotating head side by side: their row 2 i + half of
  // a head is the checkpoint's row half * d / 2 + i.
  void turned(GgufLink& link, int64_t heads) {
    if (m.arch != "llama") return;
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
  void turned_vector(const char* gguf, const std::string& hf, int64_t n, int64_t heads) {
    bias(gguf, hf, n);
    if (m.arch != "llama") return;
    GgufLink& link = out_.back();
    link.shape = {n, 1};  // rows of one number, for the permutation; written as a vector
    link.pieces[0].count = n;
    turned(link, heads);
  }

  void dense(const std::string& at, const char* gate, const char* up, const char* down,
             int64_t ffn) {
    matrix(gate, at + "gate_proj", ffn, m.width);
    matrix(up, at + "up_proj", ffn, m.width);
    matrix(down, at + "down_proj", m.width, ffn);
  }

  void experts() {
    const bool kimi = m.arch == "kimi-linear";
    const std::string at = kimi ? "block_sparse_moe." : "mlp.";
    matrix("ffn_gate_inp", at + "gate", m.experts, m.width).keep_f32 = true;
    if (kimi) add(g("exp_probs_b.bias"), h(at + "gate.e_score_correction_bias"), {m.experts});
    stack("ffn_gate_exps", at, kimi ? "w1" : "gate_proj", m.expert_ffn, m.width);
    stack("ffn_up_exps", at, kimi ? "w3" : "up_proj", m.expert_ffn, m.width);
    stack("ffn_down_exps", at, kimi ? "w2" : "down_proj", m.width, m.expert_ffn);
    if (m.shared_ffn == 0) return;
    const std::string shared = at + (kimi ? "shared_experts." : "shared_expert.");
    if (!kimi)
      add(g("ffn_gate_inp_shexp.weight"), h(at + "shared_expert_gate.weight"), {m.width},
          {1, m.width});
    dense(shared, "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp", m.shared_ffn);
  }

  void stack(const char* gguf, const std::string& at, const char* name, int64_t rows,
             int64_t columns) {
    GgufLink& link = matrix(gguf, "", rows, columns);
    link.shape = {m.experts, rows, columns};
    link.pieces.clear();
    for (int64_t e = 0; e < m.experts; ++e) {
      link.pieces.push_back({h(format("{}experts.{}.{}.weight", at, e, name)),
                             {rows, columns},
                             e * rows,
                             0,
                             rows,
                             1});
    }
  }

  // Qwen3-Next's linear layer: in_proj_qkvz holds a group of q, k, v, z rows for every key head.
  void gated_delta() {
    const int64_t r = m.value_heads / m.key_heads;
    const int64_t dk = m.key_dim, dv = m.value_dim, vg = r * dv, group = 2 * dk + 2 * vg;
    const int64_t keys = m.key_heads * dk, values = m.value_heads * dv;
    const std::string hf = h("linear_attn.in_proj_qkvz.weight");
    const Shape hf_shape = {2 * keys + 2 * values, m.width};
    GgufLink qkv, z;
    qkv.gguf = g("attn_qkv.weight");
    qkv.shape = {2 * keys + values, m.width};
    z.gguf = g("attn_gate.weight");
    z.shape = {values, m.width};
    for (int64_t k = 0; k < m.key_heads; ++k) {
      const int64_t at = k * group;
      qkv.pieces.push_back({hf, hf_shape, k * dk, at, dk, 1});
      qkv.pieces.push_back({hf, hf_shape, keys + k * dk, at + dk, dk, 1});
      qkv.pieces.push_back({hf, hf_shape, 2 * keys + k * vg, at + 2 * dk, vg, 1});
      z.pieces.push_back({hf, hf_shape, k * vg, at + 2 * dk + vg, vg, 1});
    }
    out_.push_back(std::move(qkv));
    out_.push_back(std::move(z));
    matrix("ssm_ba", "linear_attn.in_proj_ba", 2 * m.value_heads, m.width).keep_f32 = true;
    add(g("ssm_conv1d.weight"), h("linear_attn.conv1d.weight"), {2 * keys + values, m.taps},
        {2 * keys + values, 1, m.taps})
        .keep_f32 = true;
    add(g("ssm_dt.bias"), h("linear_attn.dt_bias"), {m.value_heads});
    add(g("ssm_a"), h("linear_attn.A_log"), {m.value_heads}).value = Value::kNegExp;
    add(g("ssm_norm.weight"), h("linear_attn.norm.weight"), {dv});
    matrix("ssm_out", "linear_attn.out_proj", m.width, values);
  }

  void kda() {
    const int64_t d = m.key_dim, p = m.key_heads * d;
    for (const char* x : {"q", "k", "v"}) {
      matrix(format("attn_{}", x).c_str(), format("self_attn.{}_proj", x), p, m.width);
      add(g(format("ssm_conv1d_{}.weight", x).c_str()), h(format("self_attn.{}_conv1d.weight", x)),
          {1, p, 1, m.taps}, {p, 1, m.taps})
          .keep_f32 = true;
    }
    matrix("ssm_f_a", "self_attn.f_a_proj", d, m.width);
    matrix("ssm_f_b", "self_attn.f_b_proj", p, d);
    matrix("ssm_beta", "self_attn.b_proj", m.key_heads, m.width).keep_f32 = true;
    GgufLink& a =
        add(g("ssm_a"), h("self_attn.A_log"), {1, 1, m.key_heads, 1}, {1, 1, m.key_heads, 1});
    a.value = Value::kNegExp;
    a.keep_f32 = true;
    add(g("ssm_dt.bias"), h("self_attn.dt_bias"), {p});
    matrix("ssm_g_a", "self_attn.g_a_proj", d, m.width);
    matrix("ssm_g_b", "self_attn.g_b_proj", p, d);
    add(g("ssm_norm.weight"), h("self_attn.o_norm.weight"), {d});
    matrix("attn_output", "self_attn.o_proj", m.width, p);
  }

  // kv_b_proj holds k rows and v rows of each head; files hold them apart, k transposed.
  void latent() {
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
    out_.push_back(std::move(k));
    out_.push_back(std::move(v));
    matrix("attn_output", "self_attn.o_proj", m.width, m.heads * m.v_dim);
  }

  const GgufModel& m;
  int64_t i_ = 0;
  std::vector<GgufLink> out_;
};

}  // namespace

int64_t GgufLink::rows() const { return rows_of(shape); }

std::vector<GgufLink> gguf_links(const GgufModel& model) { return Links(model).all(); }

}  // namespace braid
