#pragma once
// The definition of the gqa mixer (README.md) for one fresh sequence, straight from its equations:
// every score is computed for every pair of tokens. Number is double, or complex<double> for exact
// derivatives.

#include <cmath>
#include <complex>
#include <cstdint>
#include <span>
#include <vector>

namespace braid {

struct GqaShape {
  int64_t width = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int64_t rotary = 0;  // rotated channels of a head, 0 = no positions
  bool interleaved = false;
  double theta = 10000;
  int64_t window = 0;  // 0 = all earlier tokens
  bool qk_norm = false, one_plus = false, gate = false;
  double eps = 1e-6;
};

// Row-major as stored: q [heads * head_dim (* 2 with gate: per head q, then gate), width], k and v
// [kv_heads * head_dim, width], o [width, heads * head_dim], norms [head_dim] (null without
// qk_norm).
template <typename Number>
struct GqaWeights {
  const Number *q, *k, *v, *o, *q_norm, *k_norm;
};

template <typename Number>
class GqaRef {
 public:
  GqaRef(const GqaShape& shape, const GqaWeights<Number>& weights) : s_(shape), w_(weights) {}

  // x [tokens, width] -> [tokens, width]
  std::vector<Number> operator()(std::span<const Number> x, int64_t tokens) const {
    const int64_t d = s_.head_dim, per_head = s_.gate ? 2 * d : d;
    std::vector<Number> q = project(x, tokens, w_.q, s_.heads * per_head, s_.width);
    std::vector<Number> k = project(x, tokens, w_.k, s_.kv_heads * d, s_.width);
    const std::vector<Number> v = project(x, tokens, w_.v, s_.kv_heads * d, s_.width);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t h = 0; h < s_.heads; ++h)
        prepare(t, w_.q_norm, &q[(t * s_.heads + h) * per_head]);
      for (int64_t h = 0; h < s_.kv_heads; ++h)
        prepare(t, w_.k_norm, &k[(t * s_.kv_heads + h) * d]);
    }
    std::vector<Number> o(static_cast<size_t>(tokens * s_.heads * d));
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t h = 0; h < s_.heads; ++h) {
        const Number* query = &q[(t * s_.heads + h) * per_head];
        const int64_t kv_head = h / (s_.heads / s_.kv_heads);
        Number* out = &o[(t * s_.heads + h) * d];
        attend(t, query, &k[kv_head * d], &v[kv_head * d], out);
        for (int64_t i = 0; s_.gate && i < d; ++i) out[i] /= Number(1) + std::exp(-query[d + i]);
      }
    }
    return project(o, tokens, w_.o, s_.width, s_.heads * d);
  }

 private:
  static std::vector<Number> project(std::span<const Number> x, int64_t tokens, const Number* w,
                                     int64_t out, int64_t in) {
    std::vector<Number> y(static_cast<size_t>(tokens * out));
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t j = 0; j < out; ++j) {
        for (int64_t i = 0; i < in; ++i) y[t * out + j] += w[j * in + i] * x[t * in + i];
      }
    }
    return y;
  }

  // RMSNorm over the head, then rotation by position.
  void prepare(int64_t position, const Number* gain, Number* head) const {
    const int64_t d = s_.head_dim, half = s_.rotary / 2;
    if (s_.qk_norm) {
      Number square = 0;
      for (int64_t i = 0; i < d; ++i) square += head[i] * head[i];
      const Number rms = std::sqrt(square / static_cast<double>(d) + s_.eps);
      for (int64_t i = 0; i < d; ++i) head[i] *= (gain[i] + (s_.one_plus ? 1.0 : 0.0)) / rms;
    }
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(position) *
                           std::pow(s_.theta, -static_cast<double>(i) / static_cast<double>(half));
      Number& a = head[s_.interleaved ? 2 * i : i];
      Number& b = head[s_.interleaved ? 2 * i + 1 : i + half];
      const Number x = a, y = b;
      a = x * std::cos(angle) - y * std::sin(angle);
      b = y * std::cos(angle) + x * std::sin(angle);
    }
  }

  // out = softmax(q k^T / sqrt(d)) v over the visible tokens.
  void attend(int64_t t, const Number* query, const Number* k, const Number* v, Number* out) const {
    const int64_t d = s_.head_dim, row = s_.kv_heads * d;
    const int64_t first = s_.window > 0 ? std::max<int64_t>(0, t - s_.window + 1) : 0;
    std::vector<Number> p;
    double most = -HUGE_VAL;
    for (int64_t j = first; j <= t; ++j) {
      Number score = 0;
      for (int64_t i = 0; i < d; ++i) score += query[i] * k[j * row + i];
      p.push_back(score / std::sqrt(static_cast<double>(d)));
      most = std::max(most, std::real(p.back()));
    }
    Number total = 0;
    for (Number& x : p) total += x = std::exp(x - most);
    for (int64_t j = first; j <= t; ++j) {
      for (int64_t i = 0; i < d; ++i) out[i] += p[j - first] / total * v[j * row + i];
    }
  }

  GqaShape s_;
  GqaWeights<Number> w_;
};

}  // namespace braid
