#pragma once
// DeepSeek sparse attention in double precision: the definition (README.md), every score of every
// pair of tokens.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "braid/layers/mixers/latent_ref.h"
#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

struct DsaShape {
  MlaShape latent;
  int64_t index_heads = 0, index_dim = 0, top = 0;
  bool index_interleaved = false;
  bool warmup = false;  // attention over all keys
};

class DsaRef {
 public:
  DsaRef(const DsaShape& shape, const MlaWeights& weights, const ReferenceParams& params)
      : s_(shape), mla_(shape.latent, weights), p_(params) {}

  // What each token attends to once the indexer is trained.
  MlaRef::Chosen chosen(std::span<const double> x, int64_t tokens) const {
    return choose(scores(x, tokens));
  }

  // x [tokens, width] -> [tokens, width]
  std::vector<double> operator()(std::span<const double> x, int64_t tokens,
                                 const MlaRef::Chosen& chosen) const {
    return mla_(x, tokens, s_.warmup ? nullptr : &chosen);
  }

  // Mean over tokens of KL(main attention, averaged over heads || softmax of the index scores),
  // both over the chosen keys, or all in the warm-up.
  double index_loss(std::span<const double> x, int64_t tokens) const {
    const std::vector<std::vector<double>> all = scores(x, tokens);
    MlaRef::Chosen chosen = choose(all);
    for (int64_t t = 0; t < tokens && s_.warmup; ++t) {
      chosen[static_cast<size_t>(t)].resize(static_cast<size_t>(t) + 1);
      std::iota(chosen[static_cast<size_t>(t)].begin(), chosen[static_cast<size_t>(t)].end(), 0);
    }
    std::vector<std::vector<double>> weights;
    mla_(x, tokens, &chosen, &weights);
    double loss = 0;
    for (size_t t = 0; t < weights.size(); ++t) {
      double sum = 0;
      for (const int64_t s : chosen[t]) sum += std::exp(all[t][static_cast<size_t>(s)]);
      for (size_t i = 0; i < chosen[t].size(); ++i) {
        const double log_q = all[t][static_cast<size_t>(chosen[t][i])] - std::log(sum);
        if (weights[t][i] > 0) loss += weights[t][i] * (std::log(weights[t][i]) - log_q);
      }
    }
    return loss / static_cast<double>(tokens);
  }

 private:
  std::vector<std::vector<double>> scores(std::span<const double> x, int64_t tokens) const {
    const int64_t h = s_.index_heads, d = s_.index_dim, width = s_.latent.width;
    const std::vector<double> latent = mla_.query_latents(x, tokens);
    const int64_t in = static_cast<int64_t>(latent.size()) / tokens;
    std::vector<double> q = ref::linear<double>(latent, p_["indexer.wq_b.weight"], in);
    std::vector<double> k = ref::linear<double>(x, p_["indexer.wk.weight"], width);
    const std::vector<double> w = ref::linear<double>(x, p_["indexer.weights_proj.weight"], width);
    for (int64_t t = 0; t < tokens; ++t) {
      double* row = &k[static_cast<size_t>(t * d)];
      double mean = 0, variance = 0;
      for (int64_t i = 0; i < d; ++i) mean += row[i] / static_cast<double>(d);
      for (int64_t i = 0; i < d; ++i)
        variance += (row[i] - mean) * (row[i] - mean) / static_cast<double>(d);
      for (int64_t i = 0; i < d; ++i) {
        row[i] = (row[i] - mean) / std::sqrt(variance + 1e-6) *
                     p_["indexer.k_norm.weight"][static_cast<size_t>(i)] +
                 p_["indexer.k_norm.bias"][static_cast<size_t>(i)];
      }
      turn(t, row);
      for (int64_t j = 0; j < h; ++j) turn(t, &q[static_cast<size_t>((t * h + j) * d)]);
    }
    const double factor = 1 / std::sqrt(static_cast<double>(h * d));
    std::vector<std::vector<double>> all;
    for (int64_t t = 0; t < tokens; ++t) {
      std::vector<double> own;
      for (int64_t s = 0; s <= t; ++s) {
        double score = 0;
        for (int64_t j = 0; j < h; ++j) {
          double dot = 0;
          for (int64_t i = 0; i < d; ++i)
            dot += q[static_cast<size_t>((t * h + j) * d + i)] * k[static_cast<size_t>(s * d + i)];
          score += w[static_cast<size_t>(t * h + j)] * factor * std::max(dot, 0.0);
        }
        own.push_back(score);
      }
      all.push_back(std::move(own));
    }
    return all;
  }

  void turn(int64_t position, double* row) const {
    const MlaShape& l = s_.latent;
    if (l.rotate)
      ref::rotate(l.scaling, l.theta, l.rope, s_.index_interleaved, position, position + 1, row);
  }

  MlaRef::Chosen choose(const std::vector<std::vector<double>>& all) const {
    MlaRef::Chosen chosen;
    for (const std::vector<double>& scores : all) {
      std::vector<int64_t> order(scores.size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
        return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
      });
      if (std::ssize(order) > s_.top) order.resize(static_cast<size_t>(s_.top));
      std::sort(order.begin(), order.end());
      chosen.push_back(std::move(order));
    }
    return chosen;
  }

  DsaShape s_;
  MlaRef mla_;
  const ReferenceParams& p_;
};

}  // namespace braid
