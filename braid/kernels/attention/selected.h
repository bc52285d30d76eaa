#pragma once
// Softmax attention of one query head over chosen keys: those of a list, in its order.

#include <cstddef>
#include <cstdint>

namespace braid {

// Keys and values lie in rows of [.., d] and [.., dv] at these strides; row keys[i] is the i-th of
// `count` chosen. With pages (kernels/attention/latent.h, f32) a row lies in one of them, `k` and
// `v` being null, its key and value k_at and v_at floats from its start.
struct SelectedKeys {
  const int32_t* keys = nullptr;
  int64_t count = 0;
  const float* k = nullptr;
  int64_t ld_k = 0;
  const float* v = nullptr;
  int64_t ld_v = 0;
  int64_t d = 0, dv = 0;
  const std::byte* const* pages = nullptr;
  int64_t page_rows = 0, k_at = 0, v_at = 0;
  const float* key(int64_t i) const { return row(i, k, ld_k, k_at); }
  const float* value(int64_t i) const { return row(i, v, ld_v, v_at); }

 private:
  const float* row(int64_t i, const float* base, int64_t ld, int64_t at) const {
    if (pages == nullptr) return base + keys[i] * ld;
    return reinterpret_cast<const float*>(pages[keys[i] / page_rows]) + keys[i] % page_rows * ld +
           at;
  }
};

// out [dv] = softmax(scale q . k) v. p [count] takes the probabilities. No key: zeros.
void selected_attention_f32(const SelectedKeys& s, const float* q, float scale, float* p,
                            float* out);

// From p as forward left it and out: dq [d] stored; dk and dv rows (strides as k and v) added to.
// ds [count] is scratch.
void selected_attention_backward_f32(const SelectedKeys& s, const float* q, float scale,
                                     const float* p, const float* out, const float* d_out,
                                     float* dq, float* dk, int64_t ld_dk, float* dv, int64_t ld_dv,
                                     float* ds);

// sum a b
float dot_f32(const float* a, const float* b, int64_t n);

}  // namespace braid
