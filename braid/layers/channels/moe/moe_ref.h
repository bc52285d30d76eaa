#pragma once
// Definition of the mixture of experts on any scalar type with exp: every token by itself, experts
// one after another.

#include <algorithm>
#include <complex>
#include <numeric>

#include "braid/layers/channels/feed_forward_ref.h"

namespace braid {

template <typename S>
struct MoeRef {
  int64_t width, ffn, experts, top_k;
  bool sigmoid, renormalise;
  double scale;
  int64_t groups, topk_groups;
  int64_t shared;             // width of the shared expert
  const S* gate;              // [E, D]
  const S* bias;              // [E] or null
  const S* gate_up;           // [E, 2F, D]
  const S* down;              // [E, D, F]
  const S* shared_gate_proj;  // [shared, D]
  const S* shared_up_proj;
  const S* shared_down_proj;  // [D, shared]
  const S* shared_gate;       // [D] or null
  Activation act = {};
  const S* router_bias = nullptr;   // [E] of the logits
  const S* gate_up_bias = nullptr;  // [E, 2F]
  const S* down_bias = nullptr;     // [E, D]
  bool gated = true;                // else gate_up [E, F, D], its bias [E, F], no shared_gate_proj
};

// Scores [E] of one token.
template <typename S>
std::vector<S> moe_scores_ref(const MoeRef<S>& m, const S* x) {
  using std::exp;
  std::vector<S> s(m.experts);
  S sum = S(0);
  for (int64_t e = 0; e < m.experts; ++e) {
    const S z = ref::dot_row(m.gate, m.router_bias, e, m.width, x);
    s[e] = m.sigmoid ? S(1) / (S(1) + exp(-z)) : exp(z);
    sum += s[e];
  }
  if (!m.sigmoid) {
    for (S& v : s) v /= sum;
  }
  return s;
}

// The chosen experts, best first.
template <typename S>
std::vector<int64_t> moe_choice_ref(const MoeRef<S>& m, const std::vector<S>& s) {
  std::vector<double> c(m.experts);
  for (int64_t e = 0; e < m.experts; ++e) c[e] = ref::real_of(m.bias ? s[e] + m.bias[e] : s[e]);
  const auto best = [](std::vector<double> values) {
    std::vector<int64_t> order(values.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return values[a] > values[b]; });
    return order;
  };
  const int64_t size = m.experts / m.groups;
  if (m.groups > 1) {
    std::vector<double> group;
    for (int64_t g = 0; g < m.groups; ++g) {
      std::vector<double> members(c.begin() + g * size, c.begin() + (g + 1) * size);
      std::sort(members.rbegin(), members.rend());
      group.push_back(members[0] + (size > 1 ? members[1] : 0));
    }
    const std::vector<int64_t> order = best(group);
    for (int64_t i = m.topk_groups; i < m.groups; ++i) {
      std::fill_n(c.begin() + order[i] * size, size, -HUGE_VAL);
    }
  }
  std::vector<int64_t> chosen = best(c);
  chosen.resize(m.top_k);
  return chosen;
}

// One token: y [D].
template <typename S>
std::vector<S> moe_ref(const MoeRef<S>& m, const S* x) {
  using std::exp;
  const std::vector<S> s = moe_scores_ref(m, x);
  const std::vector<int64_t> chosen = moe_choice_ref(m, s);
  S sum = S(0);
  for (const int64_t e : chosen) sum += s[e];
  std::vector<S> y(m.width, S(0));
  for (const int64_t e : chosen) {
    const S weight = m.scale * (m.renormalise ? s[e] / (sum + 1e-20) : s[e]);
    const int64_t gate_rows = m.gated ? m.ffn : 0, rows = gate_rows + m.ffn;
    const S* first = m.gate_up + e * rows * m.width;
    FeedForwardWeights<S> own{m.width,
                              m.ffn,
                              m.gated ? first : nullptr,
                              first + gate_rows * m.width,
                              m.down + e * m.width * m.ffn,
                              m.act};
    if (m.gate_up_bias != nullptr) {
      own.gate_bias = m.gate_up_bias + e * rows;
      own.up_bias = own.gate_bias + gate_rows;
      own.down_bias = m.down_bias + e * m.width;
    }
    feed_forward_ref<S>(own, x, weight, y.data());
  }
  if (m.shared > 0) {
    S weight = S(1);
    if (m.shared_gate != nullptr) {
      S z = S(0);
      for (int64_t d = 0; d < m.width; ++d) z += m.shared_gate[d] * x[d];
      weight = S(1) / (S(1) + exp(-z));
    }
    feed_forward_ref<S>(
        {m.width, m.shared, m.shared_gate_proj, m.shared_up_proj, m.shared_down_proj, m.act}, x,
        weight, y.data());
  }
  return y;
}

}  // namespace braid
