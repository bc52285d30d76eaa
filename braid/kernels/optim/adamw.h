#pragma once
// One AdamW update (Loshchilov & Hutter, arXiv 1711.05101) over a range of elements.

#include <cstdint>

namespace braid {

struct AdamWStep {
  float grad_scale = 1;  // multiplies the gradient (clipping)
  float lr = 0;          // of this step
  float decay = 0;       // lr * weight decay of this step: w *= 1 - decay
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float eps = 1e-8f;
  float correction1 = 1;  // 1 / (1 - beta1^t)
  float correction2 = 1;  // 1 / (1 - beta2^t)
};

// m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; w = w (1 - decay) - lr m c1 / (sqrt(v c2) + eps), for
// n elements each of w, g, m, v.
void adamw_step(int64_t n, const AdamWStep& step, float* w, const float* g, float* m, float* v);

// Sum of x[i]^2 over n elements in f64, in an order fixed by n.
double sum_of_squares(int64_t n, const float* x);

}  // namespace braid
