#pragma once
// Comparing f32 results with double references, and exact derivatives of references by the complex
// step.

#include <algorithm>
#include <cmath>
#include <complex>
#include <functional>
#include <span>
#include <vector>

#include "braid/base/rng.h"
#include "braid/core/tensor.h"
#include "braid/ops/parameter.h"

namespace braid::testing {

inline Tensor random_tensor(const Context& ctx, Shape shape, const char* use, double scale = 1) {
  Tensor t = Tensor::empty(ctx, shape);
  const Rng rng(11, use);
  for (int64_t i = 0; i < t.count(); ++i) {
    t.data()[i] = static_cast<float>(scale * rng.normal(static_cast<uint64_t>(i)));
  }
  return t;
}

// A parameter with random values and a zeroed gradient.
inline Parameter random_parameter(const Context& ctx, Shape shape, const char* use,
                                  double scale = 1) {
  return Parameter{use,
                   ParamRole::kVector,
                   random_tensor(ctx, shape, use, scale),
                   Tensor::zeros(ctx, shape),
                   {}};
}

// Values in row-major order; inner dimensions may be strided.
inline std::vector<double> values(const Tensor& x) {
  if (x.contiguous()) return {x.data(), x.data() + x.count()};
  std::vector<double> v;
  for (int64_t i = 0; i < x.size(0); ++i) {
    const std::vector<double> part = values(x.select(0, i));
    v.insert(v.end(), part.begin(), part.end());
  }
  return v;
}

// max |x - ref| / max |ref|, or max |x| when the reference is all zeros; infinite when x is not
// finite.
inline double worst_error(std::span<const double> x, std::span<const double> ref) {
  BRAID_CHECK(x.size() == ref.size());
  double worst = 0, largest = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!std::isfinite(x[i])) return HUGE_VAL;
    worst = std::max(worst, std::abs(x[i] - ref[i]));
    largest = std::max(largest, std::abs(ref[i]));
  }
  return largest > 0 ? worst / largest : worst;
}
inline double worst_error(const Tensor& x, std::span<const double> ref) {
  return x.defined() ? worst_error(values(x), ref) : HUGE_VAL;
}
inline double worst_error(const Tensor& x, const Tensor& ref) {
  return worst_error(x, values(ref));
}

using Complex = std::complex<double>;

// The gradient of a real-analytic loss written for complex numbers; exact to double rounding.
inline std::vector<double> complex_step(
    std::span<const double> x, const std::function<Complex(std::span<const Complex>)>& loss) {
  constexpr double kStep = 1e-30;
  std::vector<Complex> at(x.begin(), x.end());
  std::vector<double> gradient(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    at[i] = Complex(x[i], kStep);
    gradient[i] = loss(at).imag() / kStep;
    at[i] = x[i];
  }
  return gradient;
}

}  // namespace braid::testing
