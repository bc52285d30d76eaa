#pragma once
// RWKV-6's time mix as a scalar template, one token and head at a time: the definition (README.md).

#include <string>

#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

struct Rwkv6Shape {
  int64_t width = 0, heads = 0, head_dim = 0, mix_rank = 0;
  double norm_eps = 64e-5;
};

// x [T, width] of one sequence from its beginning -> [T, width]; p[name] is a vector<T>.
template <typename T, typename Params>
std::vector<T> rwkv6_ref(const Rwkv6Shape& s, const Params& p, std::span<const T> x) {
  using std::exp, std::sqrt, std::tanh;
  const int64_t c = s.width, d = s.head_dim, m = s.mix_rank;
  const int64_t tokens = static_cast<int64_t>(x.size()) / c;
  std::vector<T> dx(x.size());
  for (int64_t i = 0; i < tokens * c; ++i) dx[i] = (i >= c ? x[i - c] : T(0)) - x[i];
  const auto through_tanh = [](T v) { return tanh(v); };
  std::vector<T> base(x.begin(), x.end());
  for (int64_t i = 0; i < tokens * c; ++i) base[i] += dx[i] * p["x_x"][i % c];
  const std::vector<T> hidden =
      ref::map(ref::linear<T>(base, p["x_lora.0.weight"], c), through_tanh);
  const auto mixed = [&](const std::string& name, int64_t block) {
    const std::vector<T> more = ref::linear<T>(ref::columns(hidden, 5 * m, block * m, m),
                                               p["x_lora.2." + name + ".weight"], m);
    std::vector<T> y(x.begin(), x.end());
    for (int64_t i = 0; i < tokens * c; ++i) y[i] += dx[i] * (p["x_" + name][i % c] + more[i]);
    return y;
  };
  const std::vector<T> low =
      ref::map(ref::linear<T>(mixed("w", 0), p["w_lora.lora.0.weight"], c), through_tanh);
  const int64_t rank = static_cast<int64_t>(p["w_lora.lora.0.weight"].size()) / c;
  const std::vector<T> w =
      ref::add_bias(ref::linear<T>(low, p["w_lora.lora.2.weight"], rank), p["w_lora.lora.2.bias"]);
  const std::vector<T> k = ref::linear<T>(mixed("k", 1), p["k_proj.weight"], c);
  const std::vector<T> v = ref::linear<T>(mixed("v", 2), p["v_proj.weight"], c);
  const std::vector<T> r = ref::linear<T>(mixed("r", 3), p["r_proj.weight"], c);
  const std::vector<T> g =
      ref::map(ref::linear<T>(mixed("g", 4), p["g_proj.weight"], c), ref::silu<T>);
  std::vector<T> o(x.size());
  for (int64_t h = 0; h < s.heads; ++h) {
    std::vector<T> state(static_cast<size_t>(d * d), T(0));
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t at = t * c + h * d, channel = h * d;
      std::vector<T> out(d, T(0));
      for (int64_t i = 0; i < d; ++i) {
        for (int64_t e = 0; e < d; ++e) {
          T& cell = state[i * d + e];
          const T written = k[at + i] * v[at + e];
          out[e] += r[at + i] * (cell + p["bonus"][channel + i] * written);
          cell = exp(-exp(w[at + i])) * cell + written;
        }
      }
      T mean = T(0), variance = T(0);
      for (int64_t e = 0; e < d; ++e) mean += out[e] / T(static_cast<double>(d));
      for (int64_t e = 0; e < d; ++e)
        variance += (out[e] - mean) * (out[e] - mean) / T(static_cast<double>(d));
      for (int64_t e = 0; e < d; ++e) {
        o[at + e] =
            ((out[e] - mean) / sqrt(variance + T(s.norm_eps)) * p["g_norm.weight"][channel + e] +
             p["g_norm.bias"][channel + e]) *
            g[at + e];
      }
    }
  }
  return ref::linear<T>(o, p["o_proj.weight"], c);
}

}  // namespace braid
