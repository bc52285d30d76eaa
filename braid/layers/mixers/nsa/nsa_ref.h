#pragma once
// Native sparse attention in double precision: the definition (README.md).

#include <algorithm>
#include <cmath>
#include <numeric>

#include "braid/layers/mixers/attention_heads.h"
#include "braid/layers/mixers/mixer_ref.h"
#include "braid/layers/mixers/rope_ref.h"

namespace braid {

struct NsaShape : AttentionHeads {
  int64_t width = 0;
  int64_t block = 64, top = 16, window = 512;
};

class NsaRef {
 public:
  NsaRef(const NsaShape& shape, const ReferenceParams& params) : s_(shape), p_(params) {}

  // x [T, width] of one sequence from its beginning -> [T, width].
  std::vector<double> operator()(std::span<const double> x) const {
    const int64_t d = s_.head_dim, row = s_.kv_heads * d, tokens = std::ssize(x) / s_.width;
    std::vector<double> q = ref::linear<double>(x, p_["q_proj.weight"], s_.width);
    std::vector<double> k = ref::linear<double>(x, p_["k_proj.weight"], s_.width);
    const std::vector<double> v = ref::linear<double>(x, p_["v_proj.weight"], s_.width);
    const std::vector<double> gates = ref::linear<double>(x, p_["g_proj.weight"], s_.width);
    for (int64_t t = 0; t < tokens && s_.rope; ++t) {
      for (int64_t h = 0; h < s_.heads; ++h) turn(t, &q[at((t * s_.heads + h) * d)]);
      for (int64_t h = 0; h < s_.kv_heads; ++h) turn(t, &k[at(t * row + h * d)]);
    }
    const int64_t blocks = tokens / s_.block;
    std::vector<double> kc(at(blocks * row)), vc(at(blocks * row));
    for (int64_t i = 0; i < blocks * s_.block * row; ++i) {
      const size_t to = at(i / (s_.block * row) * row + i % row);
      kc[to] += k[at(i)] / static_cast<double>(s_.block);
      vc[to] += v[at(i)] / static_cast<double>(s_.block);
    }
    std::vector<double> o(at(tokens * s_.heads * d), 0.0);
    const int64_t share = s_.heads / s_.kv_heads;
    for (int64_t t = 0; t < tokens; ++t) {
      std::vector<int64_t> whole(at((t + 1) / s_.block));
      std::iota(whole.begin(), whole.end(), 0);
      for (int64_t g = 0; g < s_.kv_heads; ++g) {
        std::vector<double> importance(whole.size(), 0.0);
        const auto add = [&](int64_t h, int64_t branch, const std::vector<int64_t>& seen,
                             const std::vector<double>& keys, const std::vector<double>& values,
                             std::vector<double>* weights) {
          const double gate = ref::sigmoid(gates[at(t * 3 * s_.heads + branch * s_.heads + h)]);
          attend(&q[at((t * s_.heads + h) * d)], g, seen, keys, values, gate,
                 &o[at((t * s_.heads + h) * d)], weights);
        };
        for (int64_t h = g * share; h < (g + 1) * share; ++h) add(h, 0, whole, kc, vc, &importance);
        const std::vector<int64_t> chosen = tokens_of(choose(importance, t / s_.block), t);
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
  void turn(int64_t t, double* head) const {
    ref::rotate({}, s_.rope_theta, s_.head_dim, false, t, t + 1, head);
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

  // The first block, the token's own and the one before it always; then the most important.
  std::vector<int64_t> choose(const std::vector<double>& importance, int64_t own) const {
    std::vector<int64_t> chosen = {own};
    if (own > 0) chosen.push_back(own - 1);
    if (own > 1) chosen.push_back(0);
    std::vector<int64_t> order(importance.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return importance[at(a)] > importance[at(b)]; });
    for (const int64_t b : order) {
      if (std::ssize(chosen) >= std::max<int64_t>(s_.top, 1)) break;
      if (std::find(chosen.begin(), chosen.end(), b) == chosen.end()) chosen.push_back(b);
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
