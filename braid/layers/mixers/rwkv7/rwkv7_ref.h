#pragma once
// RWKV-7's time mix as a scalar template, one token and head at a time: the definition (README.md).

#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

struct Rwkv7Shape {
  int64_t width = 0, heads = 0, head_dim = 0;
  bool first = true;  // makes v_first; later layers mix it in
  double norm_eps = 64e-5;
};

namespace rwkv7_ref_detail {

// act(x w1^T) w2^T + bias
template <typename T, typename Params, typename Act>
std::vector<T> lora(const Params& p, const std::string& name, const std::vector<T>& x, int64_t in,
                    Act act) {
  const std::vector<T>& w1 = p[name + ".lora.0.weight"];
  const int64_t rank = static_cast<int64_t>(w1.size()) / in;
  const std::vector<T> h = ref::map(ref::linear<T>(x, w1, in), act);
  return ref::linear<T>(h, p[name + ".lora.2.weight"], rank);
}

}  // namespace rwkv7_ref_detail

// x [T, width] of one sequence from its beginning -> [T, width]; p[name] is a vector<T>. v_first
// [T, width] is written when s.first, else read.
template <typename T, typename Params>
std::vector<T> rwkv7_ref(const Rwkv7Shape& s, const Params& p, std::span<const T> x,
                         std::vector<T>& v_first) {
  using std::exp, std::sqrt, std::tanh;
  const int64_t c = s.width, d = s.head_dim;
  const int64_t tokens = static_cast<int64_t>(x.size()) / c;
  const auto mixed = [&](const char* name) {
    std::vector<T> y(x.begin(), x.end());
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t i = 0; i < c; ++i) {
        const T before = t > 0 ? x[(t - 1) * c + i] : T(0);
        y[t * c + i] += (before - x[t * c + i]) * p[name][i];
      }
    }
    return y;
  };
  const auto plain = [](T v) { return v; };
  const auto through_tanh = [](T v) { return tanh(v); };
  const auto project = [&](const char* mix, const char* name) {
    return ref::linear<T>(mixed(mix), p[name], c);
  };
  using rwkv7_ref_detail::lora;
  const std::vector<T> r = project("x_r", "r_proj.weight"), k = project("x_k", "k_proj.weight");
  std::vector<T> v = project("x_v", "v_proj.weight");
  std::vector<T> w =
      ref::add_bias(lora(p, "w_lora", mixed("x_w"), c, through_tanh), p["w_lora.lora.2.bias"]);
  const std::vector<T> eta =
      ref::map(ref::add_bias(lora(p, "a_lora", mixed("x_a"), c, plain), p["a_lora.lora.2.bias"]),
               ref::sigmoid<T>);
  const std::vector<T> g = lora(p, "g_lora", mixed("x_g"), c, ref::sigmoid<T>);
  if (s.first) {
    v_first = v;
  } else {
    const std::vector<T> mix =
        ref::map(ref::add_bias(lora(p, "v_lora", mixed("x_v"), c, plain), p["v_lora.lora.2.bias"]),
                 ref::sigmoid<T>);
    for (size_t i = 0; i < v.size(); ++i) v[i] += (v_first[i] - v[i]) * mix[i];
  }
  std::vector<T> o(x.size());
  for (int64_t h = 0; h < s.heads; ++h) {
    std::vector<T> state(static_cast<size_t>(d * d), T(0)), kappa(d), write(d), erased(d);
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t at = t * c + h * d, channel = h * d;
      T square = T(0), own = T(0);
      for (int64_t i = 0; i < d; ++i) {
        kappa[i] = k[at + i] * p["k_k"][channel + i];
        square += kappa[i] * kappa[i];
        write[i] = k[at + i] * (T(1) + (eta[at + i] - T(1)) * p["k_a"][channel + i]);
        own += r[at + i] * write[i] * p["r_k"][channel + i];
      }
      for (int64_t i = 0; i < d; ++i) kappa[i] /= sqrt(square);
      for (int64_t e = 0; e < d; ++e) {
        erased[e] = T(0);
        for (int64_t i = 0; i < d; ++i) erased[e] -= kappa[i] * state[i * d + e];
      }
      std::vector<T> out(d, T(0));
      for (int64_t i = 0; i < d; ++i) {
        // log decay = -e^(-1/2) sigmoid(w)
        const T alpha = exp(T(-0.6065306597126334) * ref::sigmoid(w[at + i]));
        for (int64_t e = 0; e < d; ++e) {
          T& cell = state[i * d + e];
          cell = alpha * cell + kappa[i] * eta[at + i] * erased[e] + write[i] * v[at + e];
          out[e] += r[at + i] * cell;
        }
      }
      T mean = T(0), variance = T(0);
      for (int64_t e = 0; e < d; ++e) mean += out[e] / T(static_cast<double>(d));
      for (int64_t e = 0; e < d; ++e)
        variance += (out[e] - mean) * (out[e] - mean) / T(static_cast<double>(d));
      for (int64_t e = 0; e < d; ++e) {
        const T normed =
            (out[e] - mean) / sqrt(variance + T(s.norm_eps)) * p["g_norm.weight"][channel + e] +
            p["g_norm.bias"][channel + e];
        o[at + e] = (normed + own * v[at + e]) * g[at + e];
      }
    }
  }
  return ref::linear<T>(o, p["o_proj.weight"], c);
}

}  // namespace braid
