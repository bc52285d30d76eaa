#pragma once
// Mamba-2 as a scalar template: the definition (README.md).

#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

enum class Mamba2Norm { kNone, kAfterGate, kBeforeGate };

struct Mamba2Shape {
  int64_t width = 0;
  HeadSizes sizes;  // groups of B and C, their N states; heads of x, their P channels
  bool conv = true, conv_bias = true, bias = false;
  double dt_min = 0, dt_max = 0;
  Mamba2Norm norm = Mamba2Norm::kAfterGate;
  int64_t norm_groups = 1;
  double norm_eps = 1e-5;
  std::vector<double> in_scales;  // of z, x, B, C and dt; empty: 1
  double out_scale = 1;
};

inline RecurrenceConfig mamba2_recurrence() {
  return {.decay = RecurrenceConfig::Decay::kScalar,
          .erase = RecurrenceConfig::Erase::kNone,
          .micro_steps = 1,
          .scale = 1.0f};
}

// x [T, width] of one sequence from its beginning -> [T, width]; p[name] is a vector<T>. memory
// (may be null) takes the state space's output before the gate, [T, inner].
template <typename T, typename Params>
std::vector<T> mamba2_ref(const Mamba2Shape& s, const Params& p, std::span<const T> x,
                          std::vector<T>* memory = nullptr) {
  using std::exp;
  const int64_t inner = s.sizes.values(), bc = s.sizes.keys(), heads = s.sizes.value_heads;
  const int64_t channels = inner + 2 * bc, all = inner + channels;
  std::vector<T> in = ref::linear<T>(x, p["in_proj.weight"], s.width);
  if (s.bias) in = ref::add_bias(in, p["in_proj.bias"]);
  std::vector<T> raw = ref::linear<T>(x, p["in_proj_dt.weight"], s.width);
  if (s.bias) raw = ref::add_bias(raw, p["in_proj_dt.bias"]);
  for (int64_t i = 0; !s.in_scales.empty() && i < std::ssize(in); ++i) {
    const int64_t c = i % all;
    in[i] *= s.in_scales[c < inner ? 0 : c < 2 * inner ? 1 : c < 2 * inner + bc ? 2 : 3];
  }
  for (size_t i = 0; !s.in_scales.empty() && i < raw.size(); ++i) raw[i] *= s.in_scales[4];
  std::vector<T> xbc = ref::columns(in, all, inner, channels);
  if (s.conv) xbc = ref::conv(xbc, p["conv1d.weight"], channels);
  if (s.conv && s.conv_bias) xbc = ref::add_bias(xbc, p["conv1d.bias"]);
  xbc = ref::map(xbc, ref::silu<T>);
  ref::Operands<T> r;
  r.v = ref::columns(xbc, channels, 0, inner);
  r.k = ref::columns(xbc, channels, inner, bc);
  r.q = ref::columns(xbc, channels, inner + bc, bc);
  r.beta = ref::add_bias(raw, p["dt_bias"]);
  for (size_t i = 0; i < r.beta.size(); ++i) {
    T& dt = r.beta[i];
    dt = ref::softplus(dt);
    if (ref::real_part(dt) < s.dt_min) dt = T(s.dt_min);
    if (ref::real_part(dt) > s.dt_max) dt = T(s.dt_max);
    r.g.push_back(-exp(p["A_log"][i % static_cast<size_t>(heads)]) * dt);
  }
  std::vector<T> y = ref::recurrence(mamba2_recurrence(), s.sizes, r);
  const std::vector<T>& skip = p["D"];
  const size_t fold = static_cast<size_t>(inner) / skip.size();
  for (size_t i = 0; i < y.size(); ++i) {
    y[i] += skip[i % static_cast<size_t>(inner) / fold] * r.v[i];
  }
  if (memory != nullptr) *memory = y;
  const std::vector<T> gate = ref::map(ref::columns(in, all, 0, inner), ref::silu<T>);
  if (s.norm != Mamba2Norm::kBeforeGate) y = ref::product(y, gate);
  if (s.norm != Mamba2Norm::kNone) {
    const std::vector<T> ones(static_cast<size_t>(inner / s.norm_groups), T(1));
    y = ref::rms_norm(y, ones, s.norm_eps);
    for (size_t i = 0; i < y.size(); ++i) y[i] *= p["norm.weight"][i % static_cast<size_t>(inner)];
  }
  if (s.norm == Mamba2Norm::kBeforeGate) y = ref::product(y, gate);
  y = ref::linear<T>(y, p["out_proj.weight"], inner);
  if (s.bias) y = ref::add_bias(y, p["out_proj.bias"]);
  for (T& v : y) v *= s.out_scale;
  return y;
}

}  // namespace braid
