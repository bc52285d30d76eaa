#include "braid/kernels/optim/adamw.h"

#include <cmath>

namespace braid {

// Plain loops: seven streams of memory to a dozen flops, and the compiler vectorises them.
void adamw_step(int64_t n, const AdamWStep& s, float* __restrict w, const float* __restrict g,
                float* __restrict m, float* __restrict v) {
  const float keep = 1.0f - s.decay, add1 = 1.0f - s.beta1, add2 = 1.0f - s.beta2;
  const float step = s.lr * s.correction1;
  for (int64_t i = 0; i < n; ++i) {
    const float gi = g[i] * s.grad_scale;
    const float mi = s.beta1 * m[i] + add1 * gi;
    const float vi = s.beta2 * v[i] + add2 * gi * gi;
    m[i] = mi;
    v[i] = vi;
    w[i] = keep * w[i] - step * mi / (std::sqrt(vi * s.correction2) + s.eps);
  }
}

double sum_of_squares(int64_t n, const float* x) {
  constexpr int kLanes = 16;
  double lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      const double v = x[i + l];
      lane[l] += v * v;
    }
  }
  for (; i < n; ++i) lane[i % kLanes] += static_cast<double>(x[i]) * x[i];
  double sum = 0;
  for (const double l : lane) sum += l;
  return sum;
}

}  // namespace braid
