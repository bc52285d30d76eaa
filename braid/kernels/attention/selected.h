#pragma once
// Softmax attention of one query head over chosen keys: those of a list, in its order.

#include <cstdint>

namespace braid {

// Keys and values lie in rows of [.., d] and [.., dv] at these strides; row keys[i] is the i-th of
// `count` chosen.
struct SelectedKeys {
  const int32_t* keys = nullptr;
  int64_t count = 0;
  const float* k = nullptr;
  int64_t ld_k = 0;
  const float* v = nullptr;
  int64_t ld_v = 0;
  int64_t d = 0, dv = 0;
  const float* key(int64_t i) const { return k + keys[i] * ld_k; }
  const float* value(int64_t i) const { return v + keys[i] * ld_v; }
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
