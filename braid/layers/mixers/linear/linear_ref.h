#pragma once
// Linear attention as a scalar template: the definition (README.md).

#include "braid/layers/mixers/linear/normalizer.h"
#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

enum class LinearNorm { kRms, kSum, kNone };

constexpr double kSumEps = 1e-6;  // added to the summed scores

struct LinearShape {
  HeadSizes sizes;
  int64_t width = 0;
  LinearNorm norm = LinearNorm::kRms;
  FeatureMap map = FeatureMap::kSilu;
  double norm_eps = 1e-6;
};

inline RecurrenceConfig linear_recurrence(const LinearShape& s) {
  return {.decay = RecurrenceConfig::Decay::kNone,
          .erase = RecurrenceConfig::Erase::kNone,
          .micro_steps = 1,
          .scale = s.norm == LinearNorm::kSum ? 1.0f : key_scale(s.sizes)};
}

namespace ref {

template <typename T>
T feature(FeatureMap map, T x) {
  using std::exp;
  switch (map) {
    case FeatureMap::kSilu:
      return silu(x);
    case FeatureMap::kElu:
      return real_part(x) > 0 ? x + T(1) : exp(x);
    case FeatureMap::kRelu:
      return real_part(x) > 0 ? x : T(0);
    case FeatureMap::kIdentity:
      return x;
  }
  return x;
}

}  // namespace ref

// x [T, width] of one sequence from its beginning -> [T, width]. p[name] is a vector<T>.
template <typename T, typename Params>
std::vector<T> linear_ref(const LinearShape& s, const Params& p, std::span<const T> x) {
  const HeadSizes& n = s.sizes;
  const auto proj = [&](const char* name) { return ref::linear<T>(x, p[name], s.width); };
  const auto phi = [&](T value) { return ref::feature(s.map, value); };
  ref::Operands<T> in;
  in.q = ref::map(proj("q_proj.weight"), phi);
  in.k = ref::map(proj("k_proj.weight"), phi);
  in.v = proj("v_proj.weight");
  std::vector<T> o = ref::recurrence(linear_recurrence(s), n, in);
  if (s.norm == LinearNorm::kRms) o = ref::rms_norm(o, p["norm.weight"], s.norm_eps);
  if (s.norm == LinearNorm::kSum) {
    std::vector<T> z(static_cast<size_t>(n.keys()), T(0));  // phi(k) summed up to t
    for (size_t t = 0; t * n.keys() < in.q.size(); ++t) {
      for (int64_t c = 0; c < n.keys(); ++c) z[c] += in.k[t * n.keys() + c];
      for (int64_t j = 0; j < n.value_heads; ++j) {
        const int64_t key = j / (n.value_heads / n.heads) * n.key_dim;
        T total = T(kSumEps);
        for (int64_t c = key; c < key + n.key_dim; ++c) total += in.q[t * n.keys() + c] * z[c];
        for (int64_t c = 0; c < n.value_dim; ++c) o[t * n.values() + j * n.value_dim + c] /= total;
      }
    }
  }
  return ref::linear<T>(o, p["o_proj.weight"], n.values());
}

}  // namespace braid
