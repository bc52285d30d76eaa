#pragma once
// Mamba-3, one input and output a head, as a scalar template: the definition (README.md).

#include <numbers>

#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

struct Mamba3Shape {
  int64_t width = 0;
  HeadSizes sizes;    // groups of B and C, their N states; heads of x, their P channels
  int64_t pairs = 0;  // channels that turn, in pairs
  bool softplus_rate = false, out_norm = false;
  double rate_floor = 1e-4, norm_eps = 1e-5;
};

// x [T, width] of one sequence from its beginning -> [T, width]; p[name] is a vector<T>.
template <typename T, typename Params>
std::vector<T> mamba3_ref(const Mamba3Shape& s, const Params& p, std::span<const T> x) {
  using std::exp, std::tanh, std::cos, std::sin;
  const int64_t inner = s.sizes.values(), bc = s.sizes.keys(), heads = s.sizes.value_heads;
  const int64_t n = s.sizes.key_dim, dim = s.sizes.value_dim, share = heads / s.sizes.heads;
  const int64_t all = 2 * inner + 2 * bc, small = 3 * heads + s.pairs;
  const std::vector<T> in = ref::linear<T>(x, p["in_proj.weight"], s.width);
  const std::vector<T> steps = ref::linear<T>(x, p["in_proj_dt.weight"], s.width);
  const std::vector<T> v = ref::columns(in, all, inner, inner);
  const std::vector<T> b =
      ref::rms_norm(ref::columns(in, all, 2 * inner, bc), p["B_norm.weight"], s.norm_eps);
  const std::vector<T> c =
      ref::rms_norm(ref::columns(in, all, 2 * inner + bc, bc), p["C_norm.weight"], s.norm_eps);
  const int64_t tokens = static_cast<int64_t>(x.size()) / s.width;
  std::vector<T> y(static_cast<size_t>(tokens * inner));
  for (int64_t h = 0; h < heads; ++h) {
    std::vector<T> state(static_cast<size_t>(n * dim), T(0)), theta(s.pairs, T(0));
    std::vector<T> last_k(n, T(0)), last_v(dim, T(0)), q(n), k(n);
    for (int64_t t = 0; t < tokens; ++t) {
      const T* row = &steps[t * small];
      const T dt = ref::softplus(row[h] + p["dt_bias"][h]);
      const T raw = row[heads + h];
      T rate = s.softplus_rate              ? ref::softplus(raw)
               : ref::real_part(raw) >= 0.0 ? T(1) + raw
                                            : T(1) / (T(1) - raw);
      if (ref::real_part(rate) < s.rate_floor) rate = T(s.rate_floor);
      const T alpha = exp(-rate * dt), lambda = ref::sigmoid(row[2 * heads + h]);
      const int64_t from = (t * s.sizes.heads + h / share) * n;
      for (int64_t i = 0; i < n; ++i) {
        q[i] = c[from + i] + p["C_bias"][h * n + i];
        k[i] = b[from + i] + p["B_bias"][h * n + i];
      }
      for (int64_t j = 0; j < s.pairs; ++j) {
        theta[j] += T(std::numbers::pi) * tanh(row[3 * heads + j]) * dt;
        for (std::vector<T>* z : {&q, &k}) {
          const T a = (*z)[2 * j], e = (*z)[2 * j + 1];
          (*z)[2 * j] = a * cos(theta[j]) - e * sin(theta[j]);
          (*z)[2 * j + 1] = a * sin(theta[j]) + e * cos(theta[j]);
        }
      }
      for (int64_t e = 0; e < dim; ++e) {
        const T value = v[t * inner + h * dim + e];
        T out = p["D"][h] * value;
        for (int64_t i = 0; i < n; ++i) {
          T& cell = state[i * dim + e];
          cell = alpha * cell + (T(1) - lambda) * dt * alpha * last_k[i] * last_v[e] +
                 lambda * dt * k[i] * value;
          out += cell * q[i];
        }
        y[t * inner + h * dim + e] = out;
      }
      last_k = k;
      for (int64_t e = 0; e < dim; ++e) last_v[e] = v[t * inner + h * dim + e];
    }
  }
  const std::vector<T> gate = ref::map(ref::columns(in, all, 0, inner), ref::silu<T>);
  if (s.out_norm) {
    y = ref::rms_norm(y, std::vector<T>(static_cast<size_t>(dim), T(1)), s.norm_eps);
    for (size_t i = 0; i < y.size(); ++i) y[i] *= p["norm.weight"][i % static_cast<size_t>(inner)];
  }
  return ref::linear<T>(ref::product(y, gate), p["out_proj.weight"], inner);
}

}  // namespace braid
