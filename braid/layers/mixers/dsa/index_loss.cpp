#include "braid/layers/mixers/dsa/index_loss.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "braid/core/parallel.h"

namespace braid {
namespace {

float dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// p += share softmax(x)
void add_softmax(const std::vector<float>& x, float share, std::vector<float>& p) {
  const float most = *std::max_element(x.begin(), x.end());
  float total = 0;
  for (const float v : x) total += std::exp(v - most);
  for (size_t i = 0; i < x.size(); ++i) p[i] += share * std::exp(x[i] - most) / total;
}

struct TokenLoss {
  double kl = 0;                 // of main attention's mean over heads and softmax(index)
  std::vector<float> gradients;  // by the index scores: softmax(index) minus that mean
};

TokenLoss token_loss(const IndexLoss& l, int64_t token, std::span<const int32_t> keys,
                     const float* index_scores) {
  const int64_t heads = l.q.size(1), d = l.q.size(2), kv = l.k.size(1);
  std::vector<float> x(index_scores, index_scores + keys.size()), p(keys.size(), 0.0f),
      index(keys.size(), 0.0f);
  add_softmax(x, 1, index);
  for (int64_t h = 0; h < heads; ++h) {
    const float* query = l.q.data() + (token * heads + h) * d;
    for (size_t i = 0; i < keys.size(); ++i) {
      x[i] = static_cast<float>(l.scale) *
             dot(query, l.k.data() + (keys[i] * kv + h / (heads / kv)) * d, d);
    }
    add_softmax(x, 1.0f / static_cast<float>(heads), p);
  }
  TokenLoss loss;
  for (size_t i = 0; i < keys.size(); ++i) {
    constexpr float kLeast = std::numeric_limits<float>::min();  // where exp has underflowed
    if (p[i] > 0)
      loss.kl += static_cast<double>(p[i]) * std::log(p[i] / std::max(index[i], kLeast));
    index[i] -= p[i];
  }
  loss.gradients = std::move(index);
  return loss;
}

struct Gradients {
  Tensor q, k, weights;
  double loss = 0;  // with its coefficient
};

// One sequence after the other in each task; a sequence's tokens add into its keys in order.
Gradients gradients(const Context& ctx, const IndexLoss& l, std::span<const int64_t> seq_starts) {
  const int64_t heads = l.index_q.size(1), d = l.index_q.size(2), tokens = l.index_q.size(0);
  Gradients g{Tensor::zeros(ctx, l.index_q.shape()), Tensor::zeros(ctx, l.index_k.shape()),
              Tensor::zeros(ctx, l.weights.shape())};
  std::vector<double> kl(seq_starts.size() - 1, 0.0);
  const float factor =
      static_cast<float>(ctx.loss_share * l.coefficient / static_cast<double>(tokens));
  parallel_for(ctx, std::ssize(seq_starts) - 1, 1, [&](int64_t s, int64_t) {
    std::vector<float> dots, scores;
    for (int64_t t = seq_starts[static_cast<size_t>(s)]; t < seq_starts[static_cast<size_t>(s) + 1];
         ++t) {
      const std::span<const int32_t> keys = l.keys->of(t, 0);
      const float* w = l.weights.data() + t * heads;
      dots.assign(keys.size() * static_cast<size_t>(heads), 0.0f);
      scores.assign(keys.size(), 0.0f);
      for (size_t i = 0; i < keys.size(); ++i) {
        for (int64_t j = 0; j < heads; ++j) {
          const float r = std::max(
              0.0f, dot(l.index_q.data() + (t * heads + j) * d, l.index_k.data() + keys[i] * d, d));
          dots[i * static_cast<size_t>(heads) + static_cast<size_t>(j)] = r;
          scores[i] += w[j] * r;
        }
      }
      const TokenLoss own = token_loss(l, t, keys, scores.data());
      const std::vector<float>& up = own.gradients;
      kl[static_cast<size_t>(s)] += own.kl;
      for (size_t i = 0; i < keys.size(); ++i) {
        for (int64_t j = 0; j < heads; ++j) {
          const float r = dots[i * static_cast<size_t>(heads) + static_cast<size_t>(j)];
          g.weights.data()[t * heads + j] += factor * up[i] * r;
          if (r <= 0) continue;
          const float by = factor * up[i] * w[j];
          const float *q = l.index_q.data() + (t * heads + j) * d,
                      *k = l.index_k.data() + keys[i] * d;
          float *dq = g.q.data() + (t * heads + j) * d, *dk = g.k.data() + keys[i] * d;
          for (int64_t c = 0; c < d; ++c) {
            dq[c] += by * k[c];
            dk[c] += by * q[c];
          }
        }
      }
    }
  });
  for (const double of_sequence : kl) g.loss += of_sequence;
  g.loss *= l.coefficient / static_cast<double>(tokens);
  return g;
}

}  // namespace

Tensor with_index_loss(const Context& ctx, const Tensor& o, const IndexLoss& loss,
                       std::span<const int64_t> seq_starts) {
  Tape* tape = recording(ctx, {&o, &loss.index_q, &loss.index_k, &loss.weights});
  if (tape == nullptr) return o;
  Tensor y = o;
  std::vector<int64_t> starts(seq_starts.begin(), seq_starts.end());
  tape->record(y, [o, loss, starts = std::move(starts)](Tape& t, const Tensor& dy) {
    Gradients g = gradients(t.context(), loss, starts);
    t.add_loss("index", g.loss);
    t.add(loss.index_q, std::move(g.q));
    t.add(loss.index_k, std::move(g.k));
    t.add(loss.weights, std::move(g.weights));
    t.add(o, dy);
  });
  return y;
}

}  // namespace braid
