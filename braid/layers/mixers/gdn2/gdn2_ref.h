#pragma once
// Gated DeltaNet-2 as a scalar template: the definition (README.md).

#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

inline RecurrenceConfig gdn2_recurrence(const HeadSizes& sizes) {
  return {.decay = RecurrenceConfig::Decay::kVector,
          .erase = RecurrenceConfig::Erase::kVector,
          .micro_steps = 1,
          .scale = key_scale(sizes)};
}

// x [T, width] of one sequence from its beginning -> [T, width]. p[name] is a vector<T>.
template <typename T, typename Params>
std::vector<T> gdn2_ref(const ref::MixerShape& s, const Params& p, std::span<const T> x) {
  const HeadSizes& n = s.sizes;
  const auto proj = [&](const char* name) { return ref::linear<T>(x, p[name], s.width); };
  const auto low_rank = [&](const std::string& name) {
    const std::vector<T> inner = proj((name + ".0.weight").c_str());
    const int64_t rank = static_cast<int64_t>(p[name + ".0.weight"].size()) / s.width;
    return ref::linear<T>(inner, p[name + ".1.weight"], rank);
  };
  ref::Operands<T> in = ref::qkv(p, x, s.width, s.conv);
  in.q = ref::l2_norm(in.q, n.key_dim);
  in.k = ref::l2_norm(in.k, n.key_dim);
  in.g = ref::decay_gate(low_rank("f_proj"), p["A_log"], p["dt_bias"]);
  in.b = ref::map(proj("b_proj.weight"), [&](T b) { return T(s.beta_scale) * ref::sigmoid(b); });
  in.w = ref::map(proj("w_proj.weight"), ref::sigmoid<T>);
  std::vector<T> o = ref::recurrence(gdn2_recurrence(n), n, in);
  const std::vector<T> z = ref::add_bias(low_rank("g_proj"), p["g_proj.1.bias"]);
  o = ref::product(ref::rms_norm(o, p["o_norm.weight"], s.norm_eps), ref::map(z, ref::sigmoid<T>));
  return ref::linear<T>(o, p["o_proj.weight"], n.values());
}

}  // namespace braid
