#pragma once
// Native sparse attention in double precision: the definition (README.md), block by block and token
// by token.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "braid/layers/mixers/attention_heads.h"
#include "braid/layers/mixers/mixer_ref.h"
#include "braid/layers/mixers/rope_ref.h"
#include "braid/ops/unfold.h"

namespace braid {

struct NsaShape : AttentionHeads {
  int64_t width = 0;
  bool learned = true;  // blocks are compressed by a network, else by their means
  KvBlocks compressed{32, 16};
  int64_t hidden = 64;
  int64_t block = 64, top = 16, window = 512;
};

class NsaRef {
 public:
  NsaRef(const NsaShape& shape, const ReferenceParams& params) : s_(shape), p_(params) {}

  // x [T, width] of one sequence from its beginning -> [T, width].
  std::vector<double> operator()(std::span<const double> x) const {
    const int64_t d = s_.head_dim, tokens = std::ssize(x) / s_.width;
    std::vector<double> q = ref::linear<double>(x, p_["q_proj.weight"], s_.width);
    std::vector<double> k = ref::linear<double>(x, p_["k_proj.weight"], s_.width);
    const std::vector<double> v = ref::linear<double>(x, p_["v_proj.weight"], s_.width);
    const std::vector<double> gates = ref::linear<double>(x, p_["g_proj.weight"], s_.width);
    std::vector<double> kc;
    if (s_.learned) kc = network(k, "compress_k", tokens);
    turn(q, s_.heads, 1);
    turn(k, s_.kv_heads, 1);
    if (s_.learned) {
      turn(kc, s_.kv_heads, s_.compressed.stride);
    } else {
      kc = means(k, tokens);
    }
    const std::vector<double> vc = s_.learned ? network(v, "compress_v", tokens) : means(v, tokens);
    std::vector<double> o(at(tokens * s_.heads * d), 0.0);
    const int64_t share = s_.heads / s_.kv_heads;
    for (int64_t t = 0; t < tokens; ++t) {
      std::vector<int64_t> whole;  // compressed blocks that end at or before t
      while (std::ssize(whole) * s_.compressed.stride + s_.compressed.block <= t + 1)
        whole.push_back(std::ssize(whole));
      for (int64_t g = 0; g < s_.kv_heads; ++g) {
        std::vector<double> p(whole.size(), 0.0);
        const auto add = [&](int64_t h, int64_t branch, const std::vector<int64_t>& seen,
                             const std::vector<double>& keys, const std::vector<double>& values,
                             std::vector<double>* weights) {
          const double gate = ref::sigmoid(gates[at(t * 3 * s_.heads + branch * s_.heads + h)]);
          attend(&q[at((t * s_.heads + h) * d)], g, seen, keys, values, gate,
                 &o[at((t * s_.heads + h) * d)], weights);
        };
        for (int64_t h = g * share; h < (g + 1) * share; ++h) add(h, 0, whole, kc, vc, &p);
        const std::vector<int64_t> chosen = tokens_of(choose(p, t / s_.block), t);
        std::vector<int64_t> near;
        for (int64_t i = std::max<int64_t>(0, t - s_.window + 1); i <= t; ++i) near.push_back(i);
        for (int64_t h = g * share; h < (g + 1) * share; ++h) {
          add(h, 1, chosen, k, v, nullptr);
          add(h, 2, near, k, v, nullptr);
        }
      }
    }
    return ref::linear<double>(o, p_["o_proj.weight"], s_.heads * d);
  }

 private:
  static size_t at(int64_t i) { return static_cast<size_t>(i); }

  // Heads of x [rows, heads, d], row i at position i * stride.
  void turn(std::vector<double>& x, int64_t heads, int64_t stride) const {
    const int64_t rows = std::ssize(x) / (heads * s_.head_dim);
    for (int64_t i = 0; i < rows * heads && s_.rope; ++i) {
      const int64_t t = i / heads * stride;
      ref::rotate({}, s_.rope_theta, s_.head_dim, false, t, t + 1, &x[at(i * s_.head_dim)]);
    }
  }

  // Calls body(first token of the block) for every whole one.
  template <typename F>
  void for_blocks(int64_t tokens, F body) const {
    for (int64_t b = 0; b + s_.compressed.block <= tokens; b += s_.compressed.stride) body(b);
  }

  std::vector<double> means(const std::vector<double>& x, int64_t tokens) const {
    const int64_t row = s_.kv_heads * s_.head_dim;
    std::vector<double> y;
    for_blocks(tokens, [&](int64_t first) {
      for (int64_t c = 0; c < row; ++c) {
        double sum = 0;
        for (int64_t i = first; i < first + s_.compressed.block; ++i) sum += x[at(i * row + c)];
        y.push_back(sum / static_cast<double>(s_.compressed.block));
      }
    });
    return y;
  }

  // W_down silu(W_up [x_1 + e_1 | x_2 + e_2 | ...]) of every block and kv head.
  std::vector<double> network(const std::vector<double>& x, const std::string& name,
                              int64_t tokens) const {
    const int64_t d = s_.head_dim, l = s_.compressed.block;
    const std::vector<double>& e = p_[name + ".position"];
    std::vector<double> inputs;
    for_blocks(tokens, [&](int64_t first) {
      for (int64_t h = 0; h < s_.kv_heads; ++h) {
        for (int64_t i = 0; i < l * d; ++i)
          inputs.push_back(x[at(((first + i / d) * s_.kv_heads + h) * d + i % d)] + e[at(i)]);
      }
    });
    const std::vector<double> inner = ref::map(
        ref::linear<double>(inputs, p_[name + ".up_proj.weight"], l * d), ref::silu<double>);
    return ref::linear<double>(inner, p_[name + ".down_proj.weight"], s_.hidden);
  }

  // out += gate softmax(q k^T) v over `seen` rows; weights (may be null) += the probabilities.
  void attend(const double* q, int64_t kv, const std::vector<int64_t>& seen,
              const std::vector<double>& k, const std::vector<double>& v, double gate, double* out,
              std::vector<double>* weights) const {
    if (seen.empty()) return;
    const int64_t d = s_.head_dim, row = s_.kv_heads * d;
    std::vector<double> scores;
    for (const int64_t i : seen) {
      double score = 0;
      for (int64_t c = 0; c < d; ++c) score += q[c] * k[at(i * row + kv * d + c)];
      scores.push_back(score / std::sqrt(static_cast<double>(d)));
    }
    const double most = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (double& e : scores) total += e = std::exp(e - most);
    for (size_t i = 0; i < seen.size(); ++i) {
      if (weights != nullptr) (*weights)[i] += scores[i] / total;
      for (int64_t c = 0; c < d; ++c)
        out[c] += gate * scores[i] / total * v[at(seen[i] * row + kv * d + c)];
    }
  }

  // Eq. 9, whose blocks count from 1: p_slc[j] = sum_m sum_n p_cmp[(l'/d) j - m - n].
  double importance(const std::vector<double>& p, int64_t j) const {
    const int64_t stride = s_.compressed.stride, per = s_.block / stride;
    double sum = 0;
    for (int64_t m = 0; m < per; ++m) {
      for (int64_t n = 0; n < s_.compressed.block / stride; ++n) {
        const int64_t i = per * j - m - n;
        if (i >= 1 && i <= std::ssize(p)) sum += p[at(i - 1)];
      }
    }
    return sum;
  }

  // The first block, the token's own and the one before it always; then the most important.
  std::vector<int64_t> choose(const std::vector<double>& p, int64_t own) const {
    std::vector<int64_t> chosen = {own};
    if (own > 0) chosen.push_back(own - 1);
    if (own > 1) chosen.push_back(0);
    std::vector<int64_t> order(at(std::max<int64_t>(0, own - 2)));  // blocks 1 to own - 2
    std::iota(order.begin(), order.end(), 1);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return importance(p, a + 1) > importance(p, b + 1);
    });
    for (const int64_t b : order) {
      if (std::ssize(chosen) < s_.top) chosen.push_back(b);
    }
    std::sort(chosen.begin(), chosen.end());
    return chosen;
  }

  std::vector<int64_t> tokens_of(const std::vector<int64_t>& blocks, int64_t t) const {
    std::vector<int64_t> seen;
    for (const int64_t b : blocks) {
      for (int64_t i = b * s_.block; i < std::min((b + 1) * s_.block, t + 1); ++i)
        seen.push_back(i);
    }
    return seen;
  }

  NsaShape s_;
  const ReferenceParams& p_;
};

}  // namespace braid
