#pragma once
// Definitions of the model's norms on any scalar type with sqrt.

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace braid {

// Rows of n: x (mean x^2 + eps)^-1/2 (w + plus).
template <typename S>
std::vector<S> rms_norm_ref(std::span<const S> x, std::span<const S> w, double plus, double eps) {
  using std::sqrt;
  const size_t n = w.size();
  std::vector<S> y(x.size());
  for (size_t r = 0; r < x.size(); r += n) {
    S square = S(0);
    for (size_t i = 0; i < n; ++i) square += x[r + i] * x[r + i];
    const S rstd = S(1) / sqrt(square / S(static_cast<double>(n)) + S(eps));
    for (size_t i = 0; i < n; ++i) y[r + i] = x[r + i] * rstd * (w[i] + S(plus));
  }
  return y;
}

// Rows of n: (x - mean) (mean (x - mean)^2 + eps)^-1/2 w + b.
template <typename S>
std::vector<S> layer_norm_ref(std::span<const S> x, std::span<const S> w, std::span<const S> b,
                              double eps) {
  using std::sqrt;
  const size_t n = w.size();
  std::vector<S> y(x.size());
  for (size_t r = 0; r < x.size(); r += n) {
    S mean = S(0), square = S(0);
    for (size_t i = 0; i < n; ++i) mean += x[r + i];
    mean /= S(static_cast<double>(n));
    for (size_t i = 0; i < n; ++i) square += (x[r + i] - mean) * (x[r + i] - mean);
    const S rstd = S(1) / sqrt(square / S(static_cast<double>(n)) + S(eps));
    for (size_t i = 0; i < n; ++i) y[r + i] = (x[r + i] - mean) * rstd * w[i] + b[i];
  }
  return y;
}

}  // namespace braid
