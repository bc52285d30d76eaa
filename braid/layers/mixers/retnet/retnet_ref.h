#pragma once
// RetNet's multi-scale retention as a scalar template: the definition (README.md).

#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

inline constexpr double kRetnetTheta = 10000;

// Decay rates of the heads: -log(1 - 2^(-5 - h)).
inline std::vector<double> retnet_rates(int64_t heads) {
  std::vector<double> rates;
  for (int64_t h = 0; h < heads; ++h) {
    rates.push_back(-std::log1p(-std::exp2(-5.0 - static_cast<double>(h))));
  }
  return rates;
}

inline RecurrenceConfig retnet_recurrence(const HeadSizes& sizes) {
  return {.decay = RecurrenceConfig::Decay::kPerHead,
          .erase = RecurrenceConfig::Erase::kNone,
          .micro_steps = 1,
          .scale = key_scale(sizes)};
}

// Pairs (i, i + d / 2) of every head of d channels turned by t theta^(-2i / d) at token t.
template <typename T>
std::vector<T> retnet_rotate(std::vector<T> x, int64_t heads, int64_t d) {
  for (size_t at = 0; at < x.size(); at += d) {
    const double t = static_cast<double>(static_cast<int64_t>(at) / (heads * d));
    for (int64_t i = 0; i < d / 2; ++i) {
      const double angle = t * std::pow(kRetnetTheta, -2.0 * static_cast<double>(i) / d);
      const T a = x[at + i], b = x[at + i + d / 2], c = T(std::cos(angle)), s = T(std::sin(angle));
      x[at + i] = a * c - b * s;
      x[at + i + d / 2] = a * s + b * c;
    }
  }
  return x;
}

// x [T, width] of one sequence from its beginning -> [T, width]. p[name] is a vector<T>.
template <typename T, typename Params>
std::vector<T> retnet_ref(const ref::MixerShape& s, const Params& p, std::span<const T> x) {
  const HeadSizes& n = s.sizes;
  const auto proj = [&](const char* name) { return ref::linear<T>(x, p[name], s.width); };
  ref::Operands<T> in;
  in.q = retnet_rotate(proj("q_proj.weight"), n.heads, n.key_dim);
  in.k = retnet_rotate(proj("k_proj.weight"), n.heads, n.key_dim);
  in.v = proj("v_proj.weight");
  for (const double rate : retnet_rates(n.value_heads)) in.g.push_back(T(-rate));
  std::vector<T> o = ref::recurrence(retnet_recurrence(n), n, in);
  o = ref::product(ref::rms_norm(o, p["g_norm_swish_gate.weight"], s.norm_eps),
                   ref::map(proj("g_proj.weight"), ref::silu<T>));
  return ref::linear<T>(o, p["o_proj.weight"], n.values());
}

}  // namespace braid
