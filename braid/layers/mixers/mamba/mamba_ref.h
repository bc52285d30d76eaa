#pragma once
// Mamba as a scalar template: the definition (README.md).

#include "braid/layers/mixers/mixer_ref.h"
#include "braid/ops/selective_scan_ref.h"

namespace braid {

struct MambaShape {
  int64_t width = 0, inner = 0, states = 0, dt_rank = 0;
  bool conv = true, conv_bias = true, bias = false;
  bool norms = false;      // Jamba's, of dt, B and C
  bool norm_gains = true;  // false: Falcon-Mamba's, without gains
  double norm_eps = 1e-6;
};

// x [T, width] of one sequence from its beginning -> [T, width]; p[name] is a vector<T>. memory
// (may be null) takes the scan's output before the gate, [T, inner].
template <typename T, typename Params>
std::vector<T> mamba_ref(const MambaShape& s, const Params& p, std::span<const T> x,
                         std::vector<T>* memory = nullptr) {
  const int64_t d = s.inner, r = s.dt_rank, n = s.states;
  std::vector<T> xz = ref::linear<T>(x, p["in_proj.weight"], s.width);
  if (s.bias) xz = ref::add_bias(xz, p["in_proj.bias"]);
  std::vector<T> u = ref::columns(xz, 2 * d, 0, d);
  if (s.conv) u = ref::conv(u, p["conv1d.weight"], d);
  if (s.conv && s.conv_bias) u = ref::add_bias(u, p["conv1d.bias"]);
  u = ref::map(u, ref::silu<T>);
  const std::vector<T> dbc = ref::linear<T>(u, p["x_proj.weight"], d);
  std::vector<T> dt = ref::columns(dbc, r + 2 * n, 0, r), b = ref::columns(dbc, r + 2 * n, r, n),
                 c = ref::columns(dbc, r + 2 * n, r + n, n);
  if (s.norms) {
    const auto normed = [&](const std::vector<T>& v, const char* gains, int64_t size) {
      return ref::rms_norm(
          v, s.norm_gains ? p[gains] : std::vector<T>(static_cast<size_t>(size), T(1)), s.norm_eps);
    };
    dt = normed(dt, "dt_layernorm.weight", r);
    b = normed(b, "b_layernorm.weight", n);
    c = normed(c, "c_layernorm.weight", n);
  }
  const std::vector<T> raw = ref::linear<T>(dt, p["dt_proj.weight"], r);
  std::vector<T> h(static_cast<size_t>(d * n), T(0));
  std::vector<T> y = selective_scan_ref<T>(u, raw, b, c, p["A_log"], p["D"], p["dt_proj.bias"], h);
  if (memory != nullptr) *memory = y;
  y = ref::product(y, ref::map(ref::columns(xz, 2 * d, d, d), ref::silu<T>));
  y = ref::linear<T>(y, p["out_proj.weight"], d);
  return s.bias ? ref::add_bias(y, p["out_proj.bias"]) : y;
}

}  // namespace braid
