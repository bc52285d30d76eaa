#pragma once
// Plain linear attention as a scalar template: the definition (README.md).

#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

inline RecurrenceConfig linear_recurrence(const HeadSizes& sizes) {
  return {.decay = RecurrenceConfig::Decay::kNone,
          .erase = RecurrenceConfig::Erase::kNone,
          .micro_steps = 1,
          .scale = key_scale(sizes)};
}

// x [T, width] of one sequence from its beginning -> [T, width]. p[name] is a vector<T>.
template <typename T, typename Params>
std::vector<T> linear_ref(const ref::MixerShape& s, const Params& p, std::span<const T> x) {
  const HeadSizes& n = s.sizes;
  const auto proj = [&](const char* name) { return ref::linear<T>(x, p[name], s.width); };
  ref::Operands<T> in;
  in.q = ref::map(proj("q_proj.weight"), ref::silu<T>);
  in.k = ref::map(proj("k_proj.weight"), ref::silu<T>);
  in.v = proj("v_proj.weight");
  std::vector<T> o = ref::recurrence(linear_recurrence(n), n, in);
  o = ref::rms_norm(o, p["norm.weight"], s.norm_eps);
  return ref::linear<T>(o, p["o_proj.weight"], n.values());
}

}  // namespace braid
