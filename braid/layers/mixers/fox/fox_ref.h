#pragma once
// Forgetting attention as a scalar template: the definition (README.md), every score of every pair
// of tokens with the logarithms of the gates between them added one by one.

#include <cmath>

#include "braid/layers/mixers/attention_heads.h"
#include "braid/layers/mixers/mixer_ref.h"
#include "braid/layers/mixers/rope_ref.h"

namespace braid {

struct FoxShape : AttentionHeads {
  int64_t width = 0;
  int64_t window = 0;  // 0 = all
  bool qk_norm = false, out_norm = false, gate = false, shift = false;
  double eps = 1e-6;
};

namespace ref {

template <typename T>
T log_sigmoid(T x) {
  using std::exp, std::log;
  return real_part(x) < 0 ? x - log(T(1) + exp(x)) : -log(T(1) + exp(-x));
}

// RMSNorm of every head of d channels of x [T, heads d], gains [heads d].
template <typename T>
std::vector<T> head_norm(std::vector<T> x, const std::vector<T>& gains, int64_t d, double eps) {
  const std::vector<T> one(static_cast<size_t>(d), T(1));
  x = rms_norm(std::move(x), one, eps);
  for (size_t i = 0; i < x.size(); ++i) x[i] *= gains[i % gains.size()];
  return x;
}

// Every head of d channels of x [T, H d] at t becomes (1 - a) x_t + a x_(t-1), a = sigmoid(logits
// [T, H]); before the first there are zeros.
template <typename T>
std::vector<T> mixed_with_last(const std::vector<T>& x, const std::vector<T>& logits, int64_t d,
                               int64_t heads) {
  std::vector<T> y;
  const size_t row = static_cast<size_t>(heads * d);
  for (size_t i = 0; i < x.size(); ++i) {
    const T a = sigmoid(logits[i / static_cast<size_t>(d)]);
    y.push_back((T(1) - a) * x[i] + (i < row ? T(0) : a * x[i - row]));
  }
  return y;
}

}  // namespace ref

// x [T, width] of one sequence from its beginning -> [T, width]. p[name] is a vector<T>.
template <typename T, typename Params>
std::vector<T> fox_ref(const FoxShape& s, const Params& p, std::span<const T> x) {
  const int64_t tokens = static_cast<int64_t>(x.size()) / s.width, d = s.head_dim;
  const auto proj = [&](const char* name) { return ref::linear<T>(x, p[name], s.width); };
  std::vector<T> q = proj("q_proj.weight"), k = proj("k_proj.weight");
  std::vector<T> v = proj("v_proj.weight");
  if (s.shift) {
    k = ref::mixed_with_last(k, proj("k_proj.shift_proj.weight"), d, s.kv_heads);
    v = ref::mixed_with_last(v, proj("v_proj.shift_proj.weight"), d, s.kv_heads);
  }
  const std::vector<T> log_f =
      ref::map(ref::add_bias(proj("fgate_proj.weight"), p["fgate_proj.bias"]), ref::log_sigmoid<T>);
  if (s.qk_norm) {
    q = ref::head_norm(q, p["q_norm.weight"], d, s.eps);
    k = ref::head_norm(k, p["k_norm.weight"], d, s.eps);
  }
  for (auto* turned : {&q, &k}) {
    const int64_t row = static_cast<int64_t>(turned->size()) / tokens;
    for (int64_t at = 0; s.rope && at < tokens * row; at += d)
      ref::rotate({}, s.rope_theta, d, false, at / row, at / row + 1, &(*turned)[at]);
  }
  std::vector<T> o(static_cast<size_t>(tokens * s.heads * d), T(0));
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t kv_head = h / (s.heads / s.kv_heads), row = s.kv_heads * d;
      const int64_t first = s.window > 0 ? std::max<int64_t>(0, t - s.window + 1) : 0;
      std::vector<T> scores;  // of keys t, t - 1, ...
      T between = T(0);
      double most = -HUGE_VAL;
      for (int64_t j = t; j >= first; --j) {
        T score = T(0);
        for (int64_t c = 0; c < d; ++c)
          score += q[(t * s.heads + h) * d + c] * k[j * row + kv_head * d + c];
        scores.push_back(score / std::sqrt(static_cast<double>(d)) + between);
        most = std::max(most, ref::real_part(scores.back()));
        between += log_f[j * s.heads + h];
      }
      T total = T(0);
      for (T& score : scores) total += score = std::exp(score - most);
      for (int64_t j = t; j >= first; --j) {
        for (int64_t c = 0; c < d; ++c)
          o[(t * s.heads + h) * d + c] += scores[t - j] / total * v[j * row + kv_head * d + c];
      }
    }
  }
  if (s.out_norm) o = ref::head_norm(o, p["output_norm.weight"], d, s.eps);
  if (s.gate) o = ref::product(o, ref::map(proj("ogate_proj.weight"), ref::sigmoid<T>));
  return ref::linear<T>(o, p["o_proj.weight"], s.heads * d);
}

}  // namespace braid
