#pragma once
// MiniMax's lightning attention as a scalar template: the definition (README.md).

#include <algorithm>

#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

// Decay rates of the heads of layer l of L: slope(h) = m_h (1 - l / (L - 1) + 1e-5) with the ALiBi
// slopes m_h = 2^(-8 (h + 1) / H).
inline std::vector<double> lightning_slopes(int64_t heads, int64_t layer, int64_t layers) {
  const double depth = static_cast<double>(std::max<int64_t>(1, layers - 1));
  std::vector<double> slopes;
  for (int64_t h = 0; h < heads; ++h) {
    const double m = std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(heads));
    slopes.push_back(m * (1 - static_cast<double>(layer) / depth + 1e-5));
  }
  return slopes;
}

inline RecurrenceConfig lightning_recurrence() {
  return {.decay = RecurrenceConfig::Decay::kPerHead,
          .erase = RecurrenceConfig::Erase::kNone,
          .micro_steps = 1,
          .scale = 1};
}

// x [T, width] of one sequence from its beginning -> [T, width]. p[name] is a vector<T>.
template <typename T, typename Params>
std::vector<T> lightning_ref(const ref::MixerShape& s, const std::vector<double>& slopes,
                             const Params& p, std::span<const T> x) {
  const HeadSizes& n = s.sizes;
  const auto proj = [&](const char* name) { return ref::linear<T>(x, p[name], s.width); };
  // Per head: q, k, v.
  const std::vector<T> qkv = ref::map(proj("qkv_proj.weight"), ref::silu<T>);
  const int64_t d = n.key_dim;
  ref::Operands<T> in;
  in.q = ref::columns(qkv, 3 * d, 0, d);
  in.k = ref::columns(qkv, 3 * d, d, d);
  in.v = ref::columns(qkv, 3 * d, 2 * d, d);
  for (const double slope : slopes) in.g.push_back(T(-slope));
  std::vector<T> o = ref::recurrence(lightning_recurrence(), n, in);
  o = ref::product(ref::rms_norm(o, p["norm.weight"], s.norm_eps),
                   ref::map(proj("output_gate.weight"), ref::sigmoid<T>));
  return ref::linear<T>(o, p["out_proj.weight"], n.values());
}

}  // namespace braid
