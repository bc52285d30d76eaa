#pragma once
// Elementwise gates of the linear mixers (specs/linear-recurrences.md section 7). Columns are heads
// x channels; what a head shares has been repeated over its channels by the caller.

#include <cstdint>

namespace braid {

enum class DecayForm {
  kSoftplus,    // g = -rate softplus(a + bias)          GDN, KDA (fla)
  kLowerBound,  // g = bound sigmoid(rate (a + bias))    KDA with a lower bound < 0
  kLogSigmoid,  // g = rate log(sigmoid(a + bias))       GLA, rate 1/16
};

struct DecayGate {
  DecayForm form;
  float bound;        // kLowerBound only
  const float* rate;  // [columns]
  const float* bias;  // [columns] or null for none
};

// g [rows, columns] from a [rows, columns] with row stride lda.
void decay_gate_f32(const DecayGate& gate, int64_t rows, int64_t columns, const float* a,
                    int64_t lda, float* g);

// Writes da [rows, columns] and adds column sums: dbias += sum dy (y = a + bias), dlog += sum dg
// rate dg/drate, the gradient of log(rate).
void decay_gate_backward_f32(const DecayGate& gate, int64_t rows, int64_t columns, const float* a,
                             int64_t lda, const float* dg, float* da, float* dbias, float* dlog);

// y = scale sigmoid(x), `count` columns in each of `rows` rows.
void scaled_sigmoid_f32(float scale, int64_t rows, int64_t columns, const float* x, int64_t ldx,
                        float* y);
// dx = dy y (1 - y / scale) over `count` values.
void scaled_sigmoid_backward_f32(float scale, int64_t count, const float* y, const float* dy,
                                 float* dx);

}  // namespace braid
