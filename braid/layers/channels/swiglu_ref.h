#pragma once
// Definition of the swiglu channel on any scalar type with exp.

#include <cmath>
#include <cstdint>
#include <vector>

namespace braid {

template <typename S>
struct SwigluWeights {
  int64_t width, ffn;
  const S* gate;  // [F, D]
  const S* up;    // [F, D]
  const S* down;  // [D, F]
};

// One token: y [D] += weight * down(silu(gate x) * (up x)).
template <typename S>
void swiglu_ref(const SwigluWeights<S>& w, const S* x, S weight, S* y) {
  using std::exp;
  for (int64_t f = 0; f < w.ffn; ++f) {
    S g = S(0), u = S(0);
    for (int64_t d = 0; d < w.width; ++d) {
      g += w.gate[f * w.width + d] * x[d];
      u += w.up[f * w.width + d] * x[d];
    }
    const S inner = g / (S(1) + exp(-g)) * u;
    for (int64_t d = 0; d < w.width; ++d) y[d] += weight * w.down[d * w.ffn + f] * inner;
  }
}

}  // namespace braid
