#pragma once
// The selective scan as a scalar template, one token at a time: the definition
// (kernels/scan/selective_scan.h has the equations).

#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

namespace braid {

// One sequence: x, raw [T, D], b, c [T, N], a_log [D, N], skip, dt_bias [D]; h [D, N] before in,
// after out; -> y [T, D].
template <typename T>
std::vector<T> selective_scan_ref(const std::vector<T>& x, const std::vector<T>& raw,
                                  const std::vector<T>& b, const std::vector<T>& c,
                                  const std::vector<T>& a_log, const std::vector<T>& skip,
                                  const std::vector<T>& dt_bias, std::vector<T>& h) {
  using std::exp, std::log, std::real;
  const size_t channels = skip.size(), states = a_log.size() / channels;
  std::vector<T> y(x.size());
  for (size_t t = 0; t < x.size() / channels; ++t) {
    for (size_t d = 0; d < channels; ++d) {
      const T z = raw[t * channels + d] + dt_bias[d];
      const T dt = real(z) > 20 ? z : log(T(1) + exp(z));
      const T value = x[t * channels + d];
      T sum = skip[d] * value;
      for (size_t n = 0; n < states; ++n) {
        T& state = h[d * states + n];
        state = exp(-exp(a_log[d * states + n]) * dt) * state + dt * value * b[t * states + n];
        sum += state * c[t * states + n];
      }
      y[t * channels + d] = sum;
    }
  }
  return y;
}

}  // namespace braid
