#pragma once
// The definition of the mla mixer (README.md) for one fresh sequence, straight from its equations:
// keys and values of every head expanded, every score computed for every pair of tokens.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "braid/layers/mixers/rope_ref.h"

namespace braid {

struct MlaShape {
  int64_t width = 0, heads = 0;
  int64_t q_rank = 0;  // 0 = queries straight from the input
  int64_t rank = 0, nope = 0, rope = 0, dv = 0;
  bool rotate = true, interleaved = true, bias = false;
  double theta = 10000, scale = 1, eps = 1e-6;
  RopeScaling scaling = {};
};

// Row-major as stored; null where there is none.
struct MlaWeights {
  const double *q, *q_a, *q_a_norm, *q_b;  // q, or the others
  const double *kv_a, *kv_a_norm, *kv_b, *o;
  const double *q_a_bias, *kv_a_bias, *o_bias;
};

class MlaRef {
 public:
  MlaRef(const MlaShape& shape, const MlaWeights& weights) : s_(shape), w_(weights) {}

  // What a token attends to when it is not all before it: positions, rising.
  using Chosen = std::vector<std::vector<int64_t>>;

  // The queries' latent after its norm, or x without one: [tokens, q_rank or width].
  std::vector<double> query_latents(std::span<const double> x, int64_t tokens) const {
    std::vector<double> all;
    for (int64_t t = 0; t < tokens; ++t) {
      const std::vector<double> in(x.begin() + t * s_.width, x.begin() + (t + 1) * s_.width);
      const std::vector<double> one =
          s_.q_rank == 0 ? in : norm(product(in, w_.q_a, w_.q_a_bias, s_.q_rank), w_.q_a_norm);
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

  // x [tokens, width] -> [tokens, width]. weights (may be null) takes every token's probabilities,
  // averaged over the heads, in the order of what it attends to.
  std::vector<double> operator()(std::span<const double> x, int64_t tokens,
                                 const Chosen* chosen = nullptr,
                                 std::vector<std::vector<double>>* weights = nullptr) const {
    const int64_t d = s_.nope + s_.rope, per_head = s_.nope + s_.dv;
    std::vector<Token> seen;
    std::vector<double> y;
    for (int64_t t = 0; t < tokens; ++t) {
      const std::vector<double> in(x.begin() + t * s_.width, x.begin() + (t + 1) * s_.width);
      std::vector<double> q = queries(in);
      std::vector<double> a = product(in, w_.kv_a, w_.kv_a_bias, s_.rank + s_.rope);
      Token token;
      token.k_rope.assign(a.begin() + s_.rank, a.end());
      a.resize(static_cast<size_t>(s_.rank));
      token.kv = product(norm(a, w_.kv_a_norm), w_.kv_b, nullptr, s_.heads * per_head);
      if (s_.rotate) {
        turn(t, token.k_rope.data());
        for (int64_t h = 0; h < s_.heads; ++h) turn(t, &q[static_cast<size_t>(h * d + s_.nope)]);
      }
      seen.push_back(token);
      std::vector<double> o;
      for (int64_t h = 0; h < s_.heads; ++h) {
        std::vector<double> p;
        const std::vector<double> head =
            attend(chosen == nullptr ? seen : some(seen, (*chosen)[static_cast<size_t>(t)]), h,
                   &q[static_cast<size_t>(h * d)], p);
        if (weights != nullptr) {
          weights->resize(static_cast<size_t>(t) + 1);
          std::vector<double>& mean = weights->back();
          mean.resize(p.size());
          for (size_t i = 0; i < p.size(); ++i) mean[i] += p[i] / static_cast<double>(s_.heads);
        }
        o.insert(o.end(), head.begin(), head.end());
      }
      const std::vector<double> out = product(o, w_.o, w_.o_bias, s_.width);
      y.insert(y.end(), out.begin(), out.end());
    }
    return y;
  }

 private:
  struct Token {
    std::vector<double> kv, k_rope;
  };

  static std::vector<Token> some(const std::vector<Token>& seen, const std::vector<int64_t>& of) {
    std::vector<Token> out;
    for (const int64_t i : of) out.push_back(seen[static_cast<size_t>(i)]);
    return out;
  }

  static std::vector<double> product(const std::vector<double>& x, const double* w,
                                     const double* bias, int64_t out) {
    std::vector<double> y(static_cast<size_t>(out));
    for (size_t j = 0; j < y.size(); ++j) {
      if (bias != nullptr) y[j] = bias[j];
      for (size_t i = 0; i < x.size(); ++i) y[j] += w[j * x.size() + i] * x[i];
    }
    return y;
  }

  std::vector<double> norm(std::vector<double> x, const double* gain) const {
    double square = 0;
    for (const double v : x) square += v * v;
    const double root = std::sqrt(square / static_cast<double>(x.size()) + s_.eps);
    for (size_t i = 0; i < x.size(); ++i) x[i] *= gain[i] / root;
    return x;
  }

  std::vector<double> queries(const std::vector<double>& in) const {
    const int64_t out = s_.heads * (s_.nope + s_.rope);
    if (s_.q_rank == 0) return product(in, w_.q, nullptr, out);
    return product(norm(product(in, w_.q_a, w_.q_a_bias, s_.q_rank), w_.q_a_norm), w_.q_b, nullptr,
                   out);
  }

  void turn(int64_t position, double* part) const {
    ref::rotate(s_.scaling, s_.theta, s_.rope, s_.interleaved, position, position + 1, part);
  }

  std::vector<double> attend(const std::vector<Token>& seen, int64_t h, const double* q,
                             std::vector<double>& p) const {
    const int64_t per_head = s_.nope + s_.dv;
    std::vector<double> out(static_cast<size_t>(s_.dv));
    double most = -HUGE_VAL, total = 0;
    for (const Token& token : seen) {
      double score = 0;
      for (int64_t i = 0; i < s_.nope; ++i)
        score += q[i] * token.kv[static_cast<size_t>(h * per_head + i)];
      for (int64_t i = 0; i < s_.rope; ++i)
        score += q[s_.nope + i] * token.k_rope[static_cast<size_t>(i)];
      p.push_back(score * s_.scale);
      most = std::max(most, p.back());
    }
    for (double& v : p) total += v = std::exp(v - most);
    for (size_t j = 0; j < p.size(); ++j) {
      p[j] /= total;
      for (size_t i = 0; i < out.size(); ++i)
        out[i] += p[j] * seen[j].kv[static_cast<size_t>(h * per_head + s_.nope) + i];
    }
    return out;
  }

  MlaShape s_;
  MlaWeights w_;
};

}  // namespace braid
