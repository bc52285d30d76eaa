#pragma once
// The hymba mixer as a scalar template: the definition (README.md).

#include <cmath>

#include "braid/layers/mixers/mixer_ref.h"
#include "braid/layers/mixers/rope_ref.h"
#include "braid/ops/selective_scan_ref.h"

namespace braid {

struct HymbaShape {
  int64_t width = 0, inner = 0;                   // D, D_i
  int64_t heads = 0, kv_heads = 0, head_dim = 0;  // of attention: queries and keys
  int64_t states = 0, dt_rank = 0;                // of the scan
  bool conv = true, rope = true, reads = false;   // reads: keys and values of another layer
  double theta = 10000, eps = 1e-6;
  int64_t window = 0, prefix = 0;  // keys seen, 0 = all; the first, which no window leaves out
  int64_t value_dim() const { return inner / heads; }
  int64_t queries() const { return heads * head_dim; }
  int64_t keys() const { return reads ? 0 : kv_heads * head_dim; }
  int64_t values() const { return reads ? 0 : kv_heads * value_dim(); }
  int64_t projected() const { return queries() + keys() + values() + 2 * inner; }
};

template <typename T, typename Params>
class HymbaRef {
 public:
  HymbaRef(const HymbaShape& s, const Params& p, std::span<const T> x)
      : s_(s), p_(p), in_(ref::linear<T>(x, p["in_proj.weight"], s.width)) {}

  // k [T, kv_heads, head_dim], turned, and v [T, kv_heads, value_dim] of a layer that has its own.
  std::vector<std::vector<T>> keys_and_values() const {
    return {turned(columns(s_.queries(), s_.keys())),
            columns(s_.queries() + s_.keys(), s_.values())};
  }

  // The layer over keys and values, its own or another layer's: [T, width].
  std::vector<T> operator()(const std::vector<T>& k, const std::vector<T>& v) const {
    const std::vector<T> a =
        ref::rms_norm(attention(k, v), p_["pre_avg_layernorm1.weight"], s_.eps);
    std::vector<T> y = ref::rms_norm(scan(), p_["pre_avg_layernorm2.weight"], s_.eps);
    for (size_t i = 0; i < y.size(); ++i) y[i] = (y[i] + a[i]) / T(2);
    return ref::linear<T>(y, p_["out_proj.weight"], s_.inner);
  }

 private:
  std::vector<T> columns(int64_t begin, int64_t width) const {
    return ref::columns(in_, s_.projected(), begin, width);
  }

  std::vector<T> turned(std::vector<T> x) const {
    const int64_t row = std::ssize(x) / (std::ssize(in_) / s_.projected());
    for (int64_t at = 0; s_.rope && at < std::ssize(x); at += s_.head_dim)
      ref::rotate({}, s_.theta, s_.head_dim, false, at / row, at / row + 1, &x[at]);
    return x;
  }

  std::vector<T> attention(const std::vector<T>& k, const std::vector<T>& v) const {
    const std::vector<T> q = turned(columns(0, s_.queries()));
    const int64_t d = s_.head_dim, dv = s_.value_dim(), tokens = std::ssize(q) / s_.queries();
    std::vector<T> out(static_cast<size_t>(tokens * s_.inner), T(0));
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t h = 0; h < s_.heads; ++h) {
        const int64_t g = h / (s_.heads / s_.kv_heads);
        std::vector<T> p;
        std::vector<int64_t> seen;
        double most = -HUGE_VAL;
        for (int64_t j = 0; j <= t; ++j) {
          if (s_.window > 0 && t - j >= s_.window && j >= s_.prefix) continue;
          T score = T(0);
          for (int64_t c = 0; c < d; ++c)
            score += q[(t * s_.heads + h) * d + c] * k[(j * s_.kv_heads + g) * d + c];
          p.push_back(score / std::sqrt(static_cast<double>(d)));
          seen.push_back(j);
          most = std::max(most, ref::real_part(p.back()));
        }
        T total = T(0);
        for (T& score : p) total += score = std::exp(score - most);
        for (size_t n = 0; n < seen.size(); ++n) {
          for (int64_t c = 0; c < dv; ++c)
            out[(t * s_.heads + h) * dv + c] +=
                p[n] / total * v[(seen[n] * s_.kv_heads + g) * dv + c];
        }
      }
    }
    return out;
  }

  std::vector<T> scan() const {
    const int64_t d = s_.inner, n = s_.states, r = s_.dt_rank;
    std::vector<T> u = columns(s_.projected() - 2 * d, d);
    if (s_.conv) u = ref::add_bias(ref::conv(u, p_["conv1d.weight"], d), p_["conv1d.bias"]);
    u = ref::map(u, ref::silu<T>);
    const std::vector<T> dbc = ref::linear<T>(u, p_["x_proj.weight"], d);
    const auto part = [&](int64_t begin, int64_t width, const char* gains) {
      return ref::rms_norm(ref::columns(dbc, r + 2 * n, begin, width), p_[gains], s_.eps);
    };
    const std::vector<T> raw =
        ref::linear<T>(part(0, r, "dt_layernorm.weight"), p_["dt_proj.weight"], r);
    std::vector<T> h(static_cast<size_t>(d * n), T(0));
    const std::vector<T> y = selective_scan_ref<T>(u, raw, part(r, n, "b_layernorm.weight"),
                                                   part(r + n, n, "c_layernorm.weight"),
                                                   p_["A_log"], p_["D"], p_["dt_proj.bias"], h);
    return ref::product(y, ref::map(columns(s_.projected() - d, d), ref::silu<T>));
  }

  HymbaShape s_;
  const Params& p_;
  std::vector<T> in_;  // [T, projected]
};

}  // namespace braid
