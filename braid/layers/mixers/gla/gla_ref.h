#pragma once
// Gated linear attention as a scalar template: the definition (README.md).

#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

inline constexpr double kGlaGateScale = 1.0 / 16;

inline RecurrenceConfig gla_recurrence(const HeadSizes& sizes) {
  return {.decay = RecurrenceConfig::Decay::kVector,
          .erase = RecurrenceConfig::Erase::kNone,
          .micro_steps = 1,
          .scale = key_scale(sizes)};
}

// x [T, width] of one sequence from its beginning -> [T, width]. p[name] is a vector<T>.
template <typename T, typename Params>
std::vector<T> gla_ref(const ref::MixerShape& s, const Params& p, std::span<const T> x) {
  const HeadSizes& n = s.sizes;
  const auto proj = [&](const char* name) { return ref::linear<T>(x, p[name], s.width); };
  ref::Operands<T> in;
  if (s.conv) {
    in = ref::qkv(p, x, s.width, true);
  } else {
    in.q = proj("q_proj.weight");
    in.k = proj("k_proj.weight");
    in.v = proj("v_proj.weight");
  }
  const int64_t rank = static_cast<int64_t>(p["gk_proj.0.weight"].size()) / s.width;
  const std::vector<T> inner = proj("gk_proj.0.weight");
  in.g = ref::add_bias(ref::linear<T>(inner, p["gk_proj.1.weight"], rank), p["gk_proj.1.bias"]);
  // log sigmoid(x) = -softplus(-x)
  in.g = ref::map(in.g, [](T g) { return -ref::softplus(-g) * T(kGlaGateScale); });
  std::vector<T> o = ref::recurrence(gla_recurrence(n), n, in);
  o = ref::product(ref::rms_norm(o, p["g_norm_swish_gate.weight"], s.norm_eps),
                   ref::map(proj("g_proj.weight"), ref::silu<T>));
  return ref::linear<T>(o, p["o_proj.weight"], n.values());
}

}  // namespace braid
