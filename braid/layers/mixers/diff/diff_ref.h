#pragma once
// Differential attention as a scalar template: the definition (README.md), every score of every
// pair of tokens.

#include <cmath>

#include "braid/layers/mixers/attention_heads.h"
#include "braid/layers/mixers/mixer_ref.h"
#include "braid/layers/mixers/rope_ref.h"

namespace braid {

constexpr double kSublnEps = 1e-5;

struct DiffShape : AttentionHeads {  // heads counted singly
  int64_t width = 0;
  bool interleaved = false;
  int64_t window = 0;  // 0 = all
  int64_t prefix = 0;  // the first tokens, which no window leaves out
  bool qkv_bias = false, o_bias = false;
  double lambda_init = 0.8;
  bool reads = false;  // keys and values of another layer
};

template <typename T, typename Params>
class DiffRef {
 public:
  DiffRef(const DiffShape& shape, const Params& params) : s_(shape), p_(params) {}

  // Keys [tokens, kv_heads, d], turned, and values, of x [tokens, width].
  std::vector<std::vector<T>> keys_and_values(std::span<const T> x) const {
    return {turned(projected("k_proj", x), s_.kv_heads), projected("v_proj", x)};
  }

  // x [tokens, width] over those -> [tokens, width]
  std::vector<T> operator()(std::span<const T> x, const std::vector<T>& k,
                            const std::vector<T>& v) const {
    const int64_t tokens = static_cast<int64_t>(x.size()) / s_.width, d = s_.head_dim;
    const std::vector<T> q = turned(projected("q_proj", x), s_.heads);
    const T by = lambda();
    std::vector<T> o;
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t i = 0; i < s_.heads / 2; ++i) {
        const int64_t pair = i / (s_.heads / s_.kv_heads);
        const std::vector<T> first = attend(q, k, v, t, 2 * i, 2 * pair, pair);
        const std::vector<T> second = attend(q, k, v, t, 2 * i + 1, 2 * pair + 1, pair);
        for (int64_t c = 0; c < 2 * d; ++c) o.push_back(first[c] - by * second[c]);
      }
    }
    o = ref::rms_norm(o, p_["subln.weight"], kSublnEps);
    for (T& value : o) value *= 1 - s_.lambda_init;
    const std::vector<T> y = ref::linear<T>(o, p_["o_proj.weight"], s_.heads * d);
    return s_.o_bias ? ref::add_bias(y, p_["o_proj.bias"]) : y;
  }

 private:
  std::vector<T> projected(const std::string& name, std::span<const T> x) const {
    std::vector<T> y = ref::linear<T>(x, p_[name + ".weight"], s_.width);
    return s_.qkv_bias ? ref::add_bias(y, p_[name + ".bias"]) : y;
  }

  std::vector<T> turned(std::vector<T> x, int64_t heads) const {
    const int64_t rows = static_cast<int64_t>(x.size()) / s_.head_dim;
    for (int64_t r = 0; s_.rope && r < rows; ++r) {
      ref::rotate({}, s_.rope_theta, s_.head_dim, s_.interleaved, r / heads, r / heads + 1,
                  &x[r * s_.head_dim]);
    }
    return x;
  }

  T lambda() const {
    const auto exp_dot = [&](const char* a, const char* b) {
      T sum = T(0);
      for (int64_t i = 0; i < s_.head_dim; ++i) sum += p_[a][i] * p_[b][i];
      return std::exp(sum);
    };
    return exp_dot("lambda_q1", "lambda_k1") - exp_dot("lambda_q2", "lambda_k2") + s_.lambda_init;
  }

  // softmax(q k^T / sqrt(d)) [v1 | v2] of one query head.
  std::vector<T> attend(const std::vector<T>& q, const std::vector<T>& k, const std::vector<T>& v,
                        int64_t t, int64_t head, int64_t key_head, int64_t value_pair) const {
    const int64_t d = s_.head_dim, row = s_.kv_heads * d;
    std::vector<int64_t> seen;
    for (int64_t j = 0; j <= t; ++j) {
      if (s_.window == 0 || t - j < s_.window || j < s_.prefix) seen.push_back(j);
    }
    std::vector<T> p;
    double most = -HUGE_VAL;
    for (const int64_t j : seen) {
      T score = T(0);
      for (int64_t c = 0; c < d; ++c)
        score += q[(t * s_.heads + head) * d + c] * k[j * row + key_head * d + c];
      p.push_back(score / std::sqrt(static_cast<double>(d)));
      most = std::max(most, ref::real_part(p.back()));
    }
    T total = T(0);
    for (T& score : p) total += score = std::exp(score - most);
    std::vector<T> out(static_cast<size_t>(2 * d), T(0));
    for (size_t n = 0; n < seen.size(); ++n) {
      for (int64_t c = 0; c < 2 * d; ++c)
        out[c] += p[n] / total * v[seen[n] * row + value_pair * 2 * d + c];
    }
    return out;
  }

  DiffShape s_;
  const Params& p_;
};

}  // namespace braid
