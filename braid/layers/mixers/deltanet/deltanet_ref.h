#pragma once
// DeltaNet as a scalar template: the definition (README.md).

#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

inline RecurrenceConfig deltanet_recurrence(const HeadSizes& sizes) {
  return {.decay = RecurrenceConfig::Decay::kNone,
          .erase = RecurrenceConfig::Erase::kBeta,
          .micro_steps = 1,
          .scale = key_scale(sizes)};
}

// x [T, width] of one sequence from its beginning -> [T, width]. p[name] is a vector<T>.
template <typename T, typename Params>
std::vector<T> deltanet_ref(const ref::MixerShape& s, bool gate, const Params& p,
                            std::span<const T> x) {
  const HeadSizes& n = s.sizes;
  const auto proj = [&](const char* name) { return ref::linear<T>(x, p[name], s.width); };
  ref::Operands<T> in = ref::qkv(p, x, s.width, s.conv);
  in.q = ref::l2_norm(in.q, n.key_dim);
  in.k = ref::l2_norm(in.k, n.key_dim);
  in.beta = ref::map(proj("b_proj.weight"), [&](T b) { return T(s.beta_scale) * ref::sigmoid(b); });
  std::vector<T> o = ref::recurrence(deltanet_recurrence(n), n, in);
  o = ref::rms_norm(o, p["o_norm.weight"], s.norm_eps);
  if (gate) o = ref::product(o, ref::map(proj("g_proj.weight"), ref::silu<T>));
  return ref::linear<T>(o, p["o_proj.weight"], n.values());
}

}  // namespace braid
