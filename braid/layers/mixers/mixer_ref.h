#pragma once
// The building blocks of linear mixers as scalar templates (specs/linear-recurrences.md section 7):
// a mixer's foo_ref.h strings them together. Matrices are row-major vectors, one row per token.

#include <cmath>
#include <complex>
#include <span>
#include <string>
#include <vector>

#include "braid/kernels/delta/delta_ref.h"
#include "braid/layers/mixers/heads.h"
#include "braid/ops/recurrence.h"

namespace braid::ref {

inline double real_part(double x) { return x; }
inline double real_part(const std::complex<double>& x) { return x.real(); }

template <typename T>
T sigmoid(T x) {
  using std::exp;
  return T(1) / (T(1) + exp(-x));
}

template <typename T>
T silu(T x) {
  return x * sigmoid(x);
}

template <typename T>
T softplus(T x) {
  using std::exp, std::log;
  return real_part(x) > 20 ? x : log(T(1) + exp(x));
}

template <typename T, typename F>
std::vector<T> map(std::vector<T> x, F f) {
  for (T& v : x) v = f(v);
  return x;
}

template <typename T>
std::vector<T> product(std::vector<T> a, const std::vector<T>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] *= b[i];
  return a;
}

// x [T, in], w [out, in] -> [T, out]
template <typename T>
std::vector<T> linear(std::span<const T> x, const std::vector<T>& w, int64_t in) {
  const int64_t rows = static_cast<int64_t>(x.size()) / in;
  const int64_t out = static_cast<int64_t>(w.size()) / in;
  std::vector<T> y(static_cast<size_t>(rows * out), T(0));
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i) y[t * out + o] += w[o * in + i] * x[t * in + i];
    }
  }
  return y;
}

// x [T, n] + bias [n]
template <typename T>
std::vector<T> add_bias(std::vector<T> x, const std::vector<T>& bias) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += bias[i % bias.size()];
  return x;
}

// x [T, C] through filter w [C, 1, Kc], causal.
template <typename T>
std::vector<T> conv(const std::vector<T>& x, const std::vector<T>& w, int64_t channels) {
  const int64_t taps = static_cast<int64_t>(w.size()) / channels;
  const int64_t rows = static_cast<int64_t>(x.size()) / channels;
  std::vector<T> y(x.size(), T(0));
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t j = 0; j < taps; ++j) {
        const int64_t from = t - (taps - 1) + j;
        if (from >= 0) y[t * channels + c] += w[c * taps + j] * x[from * channels + c];
      }
    }
  }
  return y;
}

// The same and silu.
template <typename T>
std::vector<T> conv_silu(const std::vector<T>& x, const std::vector<T>& w, int64_t channels) {
  return map(conv(x, w, channels), silu<T>);
}

// Columns [begin, begin + width) of x [T, cols].
template <typename T>
std::vector<T> columns(const std::vector<T>& x, int64_t cols, int64_t begin, int64_t width) {
  std::vector<T> y;
  for (size_t row = 0; row < x.size(); row += cols) {
    y.insert(y.end(), x.begin() + row + begin, x.begin() + row + begin + width);
  }
  return y;
}

// Every run of n values divided by the root of its sum of squares + 1e-6.
template <typename T>
std::vector<T> l2_norm(std::vector<T> x, int64_t n) {
  using std::sqrt;
  for (size_t at = 0; at < x.size(); at += n) {
    T sum = T(1e-6);
    for (int64_t i = 0; i < n; ++i) sum += x[at + i] * x[at + i];
    for (int64_t i = 0; i < n; ++i) x[at + i] /= sqrt(sum);
  }
  return x;
}

// RMSNorm of every run of w.size() values, with gains w.
template <typename T>
std::vector<T> rms_norm(std::vector<T> x, const std::vector<T>& w, double eps) {
  using std::sqrt;
  const size_t n = w.size();
  for (size_t at = 0; at < x.size(); at += n) {
    T sum = T(0);
    for (size_t i = 0; i < n; ++i) sum += x[at + i] * x[at + i];
    const T rms = sqrt(sum / T(static_cast<double>(n)) + T(eps));
    for (size_t i = 0; i < n; ++i) x[at + i] = x[at + i] / rms * w[i];
  }
  return x;
}

// -exp(A_log[h]) softplus(a + dt_bias), or lower_bound sigmoid(exp(A_log[h]) (a + dt_bias)) when
// lower_bound < 0. a [T, HV] or [T, HV, K].
template <typename T>
std::vector<T> decay_gate(std::vector<T> a, const std::vector<T>& a_log,
                          const std::vector<T>& dt_bias, double lower_bound = 0) {
  using std::exp;
  const size_t cols = dt_bias.size(), width = cols / a_log.size();
  for (size_t i = 0; i < a.size(); ++i) {
    const T rate = exp(a_log[i % cols / width]), y = a[i] + dt_bias[i % cols];
    a[i] = lower_bound < 0 ? T(lower_bound) * sigmoid(rate * y) : -rate * softplus(y);
  }
  return a;
}

// ops/recurrence.h over one sequence from a zero state; operands shaped as there.
template <typename T>
struct Operands {
  std::vector<T> q, k, v, g, beta, b, w, p;
};

// What most definitions need beside the parameters.
struct MixerShape {
  HeadSizes sizes;
  int64_t width = 0;
  bool conv = true;
  double beta_scale = 1;
  double norm_eps = 1e-6;
};

// The definition of QkvFront: q, k, v of x [T, width], convolved where there are filters.
template <typename T, typename Params>
Operands<T> qkv(const Params& p, std::span<const T> x, int64_t width, bool conv) {
  const auto one = [&](const std::string& name) {
    const std::vector<T> y = linear<T>(x, p[name + "_proj.weight"], width);
    const int64_t channels = static_cast<int64_t>(p[name + "_proj.weight"].size()) / width;
    return conv ? conv_silu(y, p[name + "_conv1d.weight"], channels) : map(y, silu<T>);
  };
  Operands<T> in;
  in.q = one("q");
  in.k = one("k");
  in.v = one("v");
  return in;
}

template <typename T>
DeltaRows<const T> head_rows(const std::vector<T>& x, int64_t rows, int64_t head,
                             int64_t value_heads, int64_t width) {
  if (x.empty()) return {};
  const int64_t stride = static_cast<int64_t>(x.size()) / rows, heads = stride / width;
  return {x.data() + head * heads / value_heads * width, stride};
}

template <typename T>
std::vector<T> recurrence(const RecurrenceConfig& c, const HeadSizes& n, const Operands<T>& in) {
  using Decay = RecurrenceConfig::Decay;
  using Erase = RecurrenceConfig::Erase;
  const int64_t tokens = static_cast<int64_t>(in.q.size()) / n.keys();
  const int64_t steps = tokens * c.micro_steps;
  std::vector<T> out(static_cast<size_t>(tokens * n.values()));
  for (int64_t j = 0; j < n.value_heads; ++j) {
    const auto rows = [&](const std::vector<T>& x, int64_t count, int64_t width) {
      return head_rows(x, count, j, n.value_heads, width);
    };
    DeltaHead<T> h;
    h.tokens = tokens;
    h.micro_steps = c.micro_steps;
    h.key_dim = n.key_dim;
    h.value_dim = n.value_dim;
    h.scale = T(c.scale);
    h.decay = c.decay == Decay::kNone     ? DeltaDecay::kNone
              : c.decay == Decay::kVector ? DeltaDecay::kVector
                                          : DeltaDecay::kScalar;
    h.erase = c.erase == Erase::kNone     ? DeltaErase::kNone
              : c.erase == Erase::kBeta   ? DeltaErase::kBeta
              : c.erase == Erase::kVector ? DeltaErase::kVector
                                          : DeltaErase::kKey;
    h.q = rows(in.q, tokens, n.key_dim);
    h.k = rows(in.k, steps, n.key_dim);
    h.v = rows(in.v, steps, n.value_dim);
    if (c.decay == Decay::kPerHead) {
      h.g = {&in.g[j * in.g.size() / n.value_heads], 0};
    } else if (c.decay != Decay::kNone) {
      h.g = rows(in.g, tokens, c.decay == Decay::kVector ? n.key_dim : 1);
    }
    h.beta = rows(in.beta, steps, 1);
    h.b = rows(in.b, steps, n.key_dim);
    h.w = rows(in.w, steps, n.value_dim);
    h.p = rows(in.p, steps, n.key_dim);
    std::vector<T> state(static_cast<size_t>(n.key_dim * n.value_dim), T(0));
    delta_ref_forward(h, state.data(), DeltaRows<T>{out.data() + j * n.value_dim, n.values()});
  }
  return out;
}

}  // namespace braid::ref
