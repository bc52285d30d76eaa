#pragma once
// Mixture of block attention in double precision: the definition (README.md).

#include <algorithm>
#include <cmath>
#include <numeric>

#include "braid/layers/mixers/attention_heads.h"
#include "braid/layers/mixers/mixer_ref.h"
#include "braid/layers/mixers/rope_ref.h"

namespace braid {

struct MobaShape : AttentionHeads {
  int64_t width = 0;
  int64_t block = 512, top = 3;
};

// x [T, width] of one sequence from its beginning -> [T, width].
inline std::vector<double> moba_ref(const MobaShape& s, const ReferenceParams& p,
                                    std::span<const double> x) {
  const int64_t d = s.head_dim, row = s.kv_heads * d, tokens = std::ssize(x) / s.width;
  std::vector<double> q = ref::linear<double>(x, p["q_proj.weight"], s.width);
  std::vector<double> k = ref::linear<double>(x, p["k_proj.weight"], s.width);
  const std::vector<double> v = ref::linear<double>(x, p["v_proj.weight"], s.width);
  for (int64_t t = 0; t < tokens && s.rope; ++t) {
    for (int64_t h = 0; h < s.heads; ++h)
      ref::rotate({}, s.rope_theta, d, false, t, t + 1,
                  &q[static_cast<size_t>((t * s.heads + h) * d)]);
    for (int64_t h = 0; h < s.kv_heads; ++h)
      ref::rotate({}, s.rope_theta, d, false, t, t + 1, &k[static_cast<size_t>(t * row + h * d)]);
  }
  std::vector<double> o(static_cast<size_t>(tokens * s.heads * d), 0.0);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const double* query = &q[static_cast<size_t>((t * s.heads + h) * d)];
      const int64_t kv = h / (s.heads / s.kv_heads), own = t / s.block;
      std::vector<double> gates;
      for (int64_t b = 0; b < own; ++b) {
        double gate = 0;
        for (int64_t i = b * s.block; i < (b + 1) * s.block; ++i) {
          for (int64_t c = 0; c < d; ++c)
            gate += query[c] * k[static_cast<size_t>(i * row + kv * d + c)] /
                    static_cast<double>(s.block);
        }
        gates.push_back(gate);
      }
      std::vector<int64_t> order(gates.size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
        return gates[static_cast<size_t>(a)] > gates[static_cast<size_t>(b)];
      });
      if (std::ssize(order) > s.top - 1) order.resize(static_cast<size_t>(s.top - 1));
      order.push_back(own);
      std::vector<double> scores;
      std::vector<int64_t> seen;
      for (const int64_t b : order) {
        for (int64_t i = b * s.block; i < std::min((b + 1) * s.block, t + 1); ++i) {
          double score = 0;
          for (int64_t c = 0; c < d; ++c)
            score += query[c] * k[static_cast<size_t>(i * row + kv * d + c)];
          scores.push_back(score / std::sqrt(static_cast<double>(d)));
          seen.push_back(i);
        }
      }
      const double most = *std::max_element(scores.begin(), scores.end());
      double total = 0;
      for (double& e : scores) total += e = std::exp(e - most);
      for (size_t i = 0; i < seen.size(); ++i) {
        for (int64_t c = 0; c < d; ++c) {
          o[static_cast<size_t>((t * s.heads + h) * d + c)] +=
              scores[i] / total * v[static_cast<size_t>(seen[i] * row + kv * d + c)];
        }
      }
    }
  }
  return ref::linear<double>(o, p["o_proj.weight"], s.heads * d);
}

}  // namespace braid
