#pragma once
// Gated DeltaNet as a scalar template: the definition (README.md).

#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

inline RecurrenceConfig gdn_recurrence(const HeadSizes& sizes) {
  return {.decay = RecurrenceConfig::Decay::kScalar,
          .erase = RecurrenceConfig::Erase::kBeta,
          .micro_steps = 1,
          .scale = key_scale(sizes)};
}

// x [T, width] of one sequence from its beginning -> [T, width]. p[name] is a vector<T>.
template <typename T, typename Params>
std::vector<T> gdn_ref(const ref::MixerShape& s, const Params& p, std::span<const T> x) {
  const HeadSizes& n = s.sizes;
  const int64_t channels = 2 * n.keys() + n.values();
  const auto proj = [&](const char* name) { return ref::linear<T>(x, p[name], s.width); };
  std::vector<T> qkv = proj("in_proj_qkv.weight");
  qkv = s.conv ? ref::conv_silu(qkv, p["conv1d.weight"], channels) : ref::map(qkv, ref::silu<T>);
  ref::Operands<T> in;
  in.q = ref::l2_norm(ref::columns(qkv, channels, 0, n.keys()), n.key_dim);
  in.k = ref::l2_norm(ref::columns(qkv, channels, n.keys(), n.keys()), n.key_dim);
  in.v = ref::columns(qkv, channels, 2 * n.keys(), n.values());
  in.g = ref::decay_gate(proj("in_proj_a.weight"), p["A_log"], p["dt_bias"]);
  in.beta =
      ref::map(proj("in_proj_b.weight"), [&](T b) { return T(s.beta_scale) * ref::sigmoid(b); });
  std::vector<T> o = ref::recurrence(gdn_recurrence(n), n, in);
  o = ref::product(ref::rms_norm(o, p["norm.weight"], s.norm_eps),
                   ref::map(proj("in_proj_z.weight"), ref::silu<T>));
  return ref::linear<T>(o, p["out_proj.weight"], n.values());
}

}  // namespace braid
