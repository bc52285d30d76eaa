#pragma once
// Definitions of the feed-forward layers on any scalar type with exp: double, or complex with an
// infinitesimal imaginary part.

#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

#include "braid/ops/elementwise.h"

namespace braid {
namespace ref {

inline double real_of(double x) { return x; }
inline double real_of(const std::complex<double>& x) { return x.real(); }

inline double erf_of(double x) { return std::erf(x); }
inline std::complex<double> erf_of(const std::complex<double>& x) {  // to first order
  constexpr double kSlope = 1.1283791670955126;                      // 2 / sqrt(pi)
  return {std::erf(x.real()), x.imag() * kSlope * std::exp(-x.real() * x.real())};
}

template <typename S>
S tanh_of(S x) {
  using std::exp;
  const S e = exp(real_of(x) < 0 ? S(2) * x : S(-2) * x);
  return real_of(x) < 0 ? (e - S(1)) / (e + S(1)) : (S(1) - e) / (S(1) + e);
}

template <typename S>
S act_of(Act act, S x) {
  using std::exp;
  switch (act) {
    case Act::kGelu:
      return x * S(0.5) * (S(1) + erf_of(x * S(std::sqrt(0.5))));
    case Act::kGeluTanh:
      return x * S(0.5) *
             (S(1) + tanh_of<S>(S(std::sqrt(2 / M_PI)) * (x + S(0.044715) * x * x * x)));
    case Act::kRelu2:
      return real_of(x) > 0 ? x * x : S(0);
    default:
      return x / (S(1) + exp(-x));
  }
}

// The inside of a gated layer.
template <typename S>
S gated_of(const Activation& act, S gate, S up) {
  using std::exp;
  if (act.act != Act::kClamped) return act_of(act.act, gate) * up;
  const double limit = act.limit;
  const S g = real_of(gate) > limit ? S(limit) : gate;
  const S u = real_of(up) > limit ? S(limit) : real_of(up) < -limit ? S(-limit) : up;
  return g / (S(1) + exp(-S(double{act.alpha}) * g)) * (u + S(1));
}

// Row r of weight [., n] on x [n], plus bias [.] where there is one.
template <typename S>
S dot_row(const S* weight, const S* bias, int64_t r, int64_t n, const S* x) {
  S sum = bias != nullptr ? bias[r] : S(0);
  for (int64_t i = 0; i < n; ++i) sum += weight[r * n + i] * x[i];
  return sum;
}

}  // namespace ref

// gate null: ungated, down(act(up x)). Biases may be null.
template <typename S>
struct FeedForwardWeights {
  int64_t width, ffn;
  const S* gate;  // [F, D]
  const S* up;    // [F, D]
  const S* down;  // [D, F]
  Activation act = {};
  const S* gate_bias = nullptr;  // [F]
  const S* up_bias = nullptr;    // [F]
  const S* down_bias = nullptr;  // [D]
  double gate_scale = 1;         // of the gate before its activation
};

// One token: y [D] += weight * down(act(gate x) * (up x)).
template <typename S>
void feed_forward_ref(const FeedForwardWeights<S>& w, const S* x, S weight, S* y) {
  std::vector<S> inner(static_cast<size_t>(w.ffn));
  for (int64_t f = 0; f < w.ffn; ++f) {
    const S u = ref::dot_row(w.up, w.up_bias, f, w.width, x);
    inner[static_cast<size_t>(f)] =
        w.gate == nullptr
            ? ref::act_of(w.act.act, u)
            : ref::gated_of(w.act,
                            S(w.gate_scale) * ref::dot_row(w.gate, w.gate_bias, f, w.width, x), u);
  }
  for (int64_t d = 0; d < w.width; ++d) {
    y[d] += weight * ref::dot_row(w.down, w.down_bias, d, w.ffn, inner.data());
  }
}

}  // namespace braid
