#pragma once
// The gated short convolution as a scalar template: the definition (README.md).

#include "braid/layers/mixers/mixer_ref.h"

namespace braid {

struct ShortConvShape {
  int64_t width = 0;
  bool bias = false;
};

// x [T, width] of one sequence from its beginning -> [T, width]. p[name] is a vector<T>.
template <typename T, typename Params>
std::vector<T> shortconv_ref(const ShortConvShape& s, const Params& p, std::span<const T> x) {
  const int64_t d = s.width;
  std::vector<T> bcu = ref::linear<T>(x, p["in_proj.weight"], d);
  if (s.bias) bcu = ref::add_bias(bcu, p["in_proj.bias"]);
  const std::vector<T> c = ref::columns(bcu, 3 * d, d, d);
  std::vector<T> y =
      ref::product(ref::columns(bcu, 3 * d, 0, d), ref::columns(bcu, 3 * d, 2 * d, d));
  y = ref::conv(y, p["conv.weight"], d);
  if (s.bias) y = ref::add_bias(y, p["conv.bias"]);
  y = ref::linear<T>(ref::product(y, c), p["out_proj.weight"], d);
  return s.bias ? ref::add_bias(y, p["out_proj.bias"]) : y;
}

}  // namespace braid
