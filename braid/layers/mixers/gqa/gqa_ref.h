#pragma once
// The definition of the gqa mixer (README.md) for one fresh sequence, straight from its equations:
// every score is computed for every pair of tokens. Number is double, or complex<double> for exact
// derivatives.

#include <cmath>
#include <complex>
#include <cstdint>
#include <span>
#include <vector>

#include "braid/layers/mixers/rope_ref.h"

namespace braid {

enum class QkNorm { kNone, kHead, kFull };

struct GqaShape {
  int64_t width = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int64_t rotary = 0;  // rotated channels of a head, 0 = no positions
  bool interleaved = false;
  double theta = 10000;
  int64_t window = 0;  // 0 = all earlier tokens
  QkNorm qk_norm = QkNorm::kNone;
  bool one_plus = false, gate = false;
  double eps = 1e-6;
  int64_t chunk = 0;  // 0 = one chunk
  bool qkv_bias = false, o_bias = false, sinks = false;
  double scale = 1, softcap = 0;  // 0 = no cap
  double out_scale = 1;
  RopeScaling scaling = {};
  bool reads = false;  // keys and values of another layer
  int64_t prefix = 0;  // the first tokens, which no window leaves out
};

// Row-major as stored: q [heads * head_dim (* 2 with gate: per head q, then gate), width], k and v
// [kv_heads * head_dim, width], o [width, heads * head_dim], norms [head_dim], or [heads *
// head_dim] and [kv_heads * head_dim] when full, biases, sinks [heads]; null where there is none.
template <typename Number>
struct GqaWeights {
  const Number *q, *k, *v, *o, *q_norm, *k_norm;
  const Number *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr, *o_bias = nullptr;
  const Number* sinks = nullptr;
};

template <typename Number>
class GqaRef {
 public:
  GqaRef(const GqaShape& shape, const GqaWeights<Number>& weights) : s_(shape), w_(weights) {}

  // x [tokens, width] -> [tokens, width]
  std::vector<Number> operator()(std::span<const Number> x, int64_t tokens) const {
    const std::vector<std::vector<Number>> kv = keys_and_values(x, tokens);
    return (*this)(x, tokens, kv[0], kv[1]);
  }

  // k and v [tokens, kv_heads, head_dim] as they are attended to.
  std::vector<std::vector<Number>> keys_and_values(std::span<const Number> x,
                                                   int64_t tokens) const {
    const int64_t row = s_.kv_heads * s_.head_dim;
    std::vector<Number> k = project(x, tokens, w_.k, w_.k_bias, row, s_.width);
    for (int64_t t = 0; t < tokens; ++t) {
      prepare(t, w_.k_norm, s_.kv_heads, s_.head_dim, &k[t * row]);
    }
    return {std::move(k), project(x, tokens, w_.v, w_.v_bias, row, s_.width)};
  }

  // The same over given keys and values, another layer's.
  std::vector<Number> operator()(std::span<const Number> x, int64_t tokens,
                                 const std::vector<Number>& k, const std::vector<Number>& v) const {
    const int64_t d = s_.head_dim, per_head = s_.gate ? 2 * d : d;
    std::vector<Number> q = project(x, tokens, w_.q, w_.q_bias, s_.heads * per_head, s_.width);
    for (int64_t t = 0; t < tokens; ++t) {
      prepare(t, w_.q_norm, s_.heads, per_head, &q[t * s_.heads * per_head]);
    }
    std::vector<Number> o(static_cast<size_t>(tokens * s_.heads * d));
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t h = 0; h < s_.heads; ++h) {
        const Number* query = &q[(t * s_.heads + h) * per_head];
        const int64_t kv_head = h / (s_.heads / s_.kv_heads);
        Number* out = &o[(t * s_.heads + h) * d];
        attend(t, h, query, &k[kv_head * d], &v[kv_head * d], out);
        for (int64_t i = 0; s_.gate && i < d; ++i) out[i] /= Number(1) + std::exp(-query[d + i]);
      }
    }
    std::vector<Number> y = project(o, tokens, w_.o, w_.o_bias, s_.width, s_.heads * d);
    for (Number& v : y) v *= s_.out_scale;
    return y;
  }

 private:
  static std::vector<Number> project(std::span<const Number> x, int64_t tokens, const Number* w,
                                     const Number* bias, int64_t out, int64_t in) {
    std::vector<Number> y(static_cast<size_t>(tokens * out));
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t j = 0; j < out; ++j) {
        if (bias != nullptr) y[t * out + j] = bias[j];
        for (int64_t i = 0; i < in; ++i) y[t * out + j] += w[j * in + i] * x[t * in + i];
      }
    }
    return y;
  }

  void rms(const Number* gain, int64_t n, Number* x) const {
    Number square = 0;
    for (int64_t i = 0; i < n; ++i) square += x[i] * x[i];
    const Number root = std::sqrt(square / static_cast<double>(n) + s_.eps);
    for (int64_t i = 0; i < n; ++i) x[i] *= (gain[i] + (s_.one_plus ? 1.0 : 0.0)) / root;
  }

  // The norm, over each head or all of them, then rotation by position. Head h is at row + h * ld.
  void prepare(int64_t position, const Number* gain, int64_t heads, int64_t ld, Number* row) const {
    if (s_.qk_norm == QkNorm::kFull) rms(gain, heads * s_.head_dim, row);
    for (int64_t h = 0; h < heads; ++h) {
      if (s_.qk_norm == QkNorm::kHead) rms(gain, s_.head_dim, row + h * ld);
      if (s_.rotary > 0) {
        ref::rotate(s_.scaling, s_.theta, s_.rotary, s_.interleaved, position, position + 1,
                    row + h * ld);
      }
    }
  }

  // out = softmax(cap(scale q k^T)) v over the visible tokens.
  void attend(int64_t t, int64_t head, const Number* query, const Number* k, const Number* v,
              Number* out) const {
    const int64_t d = s_.head_dim, row = s_.kv_heads * d;
    std::vector<Number> p;
    std::vector<int64_t> seen;
    double most = s_.sinks ? std::real(w_.sinks[head]) : -HUGE_VAL;
    for (int64_t j = 0; j <= t; ++j) {
      if (s_.window > 0 && t - j >= s_.window && j >= s_.prefix) continue;
      if (s_.chunk > 0 && t / s_.chunk != j / s_.chunk) continue;
      Number score = 0;
      for (int64_t i = 0; i < d; ++i) score += query[i] * k[j * row + i];
      score *= s_.scale;
      if (s_.softcap > 0) score = s_.softcap * std::tanh(score / s_.softcap);
      p.push_back(score);
      seen.push_back(j);
      most = std::max(most, std::real(score));
    }
    Number total = s_.sinks ? std::exp(w_.sinks[head] - most) : Number(0);
    for (Number& x : p) total += x = std::exp(x - most);
    for (size_t n = 0; n < p.size(); ++n) {
      for (int64_t i = 0; i < d; ++i) out[i] += p[n] / total * v[seen[n] * row + i];
    }
  }

  GqaShape s_;
  GqaWeights<Number> w_;
};

}  // namespace braid
