#pragma once
// Comba as a scalar template: the definition (README.md).

#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

inline RecurrenceConfig comba_recurrence(const HeadSizes& sizes) {
  return {.decay = RecurrenceConfig::Decay::kScalar,
          .erase = RecurrenceConfig::Erase::kKey,
          .micro_steps = 1,
          .scale = key_scale(sizes)};
}

// x [T, width] of one sequence from its beginning -> [T, width]. p[name] is a vector<T>.
template <typename T, typename Params>
std::vector<T> comba_ref(const ref::MixerShape& s, const Params& p, std::span<const T> x) {
  const HeadSizes& n = s.sizes;
  const auto proj = [&](const char* name) { return ref::linear<T>(x, p[name], s.width); };
  const std::vector<T>&decay = p["decay"], &correction = p["D"];
  const auto head = [&](size_t i) { return i / n.key_dim % n.heads; };
  ref::Operands<T> in = ref::qkv(p, x, s.width, s.conv);
  for (size_t i = 0; i < in.q.size(); ++i) {
    in.q[i] -= correction[head(i)] * ref::sigmoid(decay[head(i)]) * in.k[i];
  }
  in.q = ref::l2_norm(in.q, n.key_dim);
  in.k = ref::l2_norm(in.k, n.key_dim);
  for (size_t i = 0; i < in.k.size(); ++i) {
    in.p.push_back(ref::sigmoid(decay[head(i)]) * in.k[i]);
  }
  in.g = ref::decay_gate(proj("a_proj.weight"), p["A_log"], p["dt_bias"]);
  in.beta = ref::map(proj("b_proj.weight"), [&](T b) { return T(s.beta_scale) * ref::sigmoid(b); });
  std::vector<T> o = ref::recurrence(comba_recurrence(n), n, in);
  o = ref::product(ref::rms_norm(o, p["o_norm.weight"], s.norm_eps),
                   ref::map(proj("g_proj.weight"), ref::sigmoid<T>));
  return ref::linear<T>(o, p["o_proj.weight"], n.values());
}

}  // namespace braid
