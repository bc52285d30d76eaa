#pragma once
// Kimi Delta Attention as a scalar template: the definition (README.md).

#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

struct KdaShape {
  HeadSizes sizes;
  int64_t width = 0;
  bool conv = true;
  bool full_rank_gate = false;
  double gate_lower_bound = 0;
  double beta_scale = 1;
  double norm_eps = 1e-6;
};

inline RecurrenceConfig kda_recurrence(const HeadSizes& sizes) {
  return {.decay = RecurrenceConfig::Decay::kVector,
          .erase = RecurrenceConfig::Erase::kBeta,
          .micro_steps = 1,
          .scale = key_scale(sizes)};
}

// x [T, width] of one sequence from its beginning -> [T, width]. p[name] is a vector<T>.
template <typename T, typename Params>
std::vector<T> kda_ref(const KdaShape& s, const Params& p, std::span<const T> x) {
  const HeadSizes& n = s.sizes;
  const int64_t rank = static_cast<int64_t>(p["f_a_proj.weight"].size()) / s.width;
  const auto proj = [&](const char* name) { return ref::linear<T>(x, p[name], s.width); };
  ref::Operands<T> in = ref::qkv(p, x, s.width, s.conv);
  in.q = ref::l2_norm(in.q, n.key_dim);
  in.k = ref::l2_norm(in.k, n.key_dim);
  const std::vector<T> f = proj("f_a_proj.weight");
  in.g = ref::decay_gate(ref::linear<T>(f, p["f_b_proj.weight"], rank), p["A_log"], p["dt_bias"],
                         s.gate_lower_bound);
  in.beta = ref::map(proj("b_proj.weight"), [&](T b) { return T(s.beta_scale) * ref::sigmoid(b); });
  std::vector<T> z;
  if (s.full_rank_gate) {
    z = proj("g_proj.weight");
  } else {
    const std::vector<T> g = proj("g_a_proj.weight");
    z = ref::linear<T>(g, p["g_b_proj.weight"], rank);
  }
  std::vector<T> o = ref::recurrence(kda_recurrence(n), n, in);
  o = ref::product(ref::rms_norm(o, p["o_norm.weight"], s.norm_eps), ref::map(z, ref::sigmoid<T>));
  return ref::linear<T>(o, p["o_proj.weight"], n.values());
}

}  // namespace braid
