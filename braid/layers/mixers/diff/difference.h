#pragma once
// The two steps that make attention differential, around an ordinary softmax attention whose heads
// come in pairs.

#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

// q [T, H, d], whose rows may be strided -> [T, H, 2 d]: even heads in the first half of the
// channels, odd heads in the second, zeros elsewhere. Against keys [k1 | k2] of 2 d channels, q1 so
// meets k1 and q2 k2.
Tensor spread_pairs(const Context& ctx, const Tensor& q);

// lambda = exp(q1 . k1) - exp(q2 . k2) + init of vectors [d].
struct Lambda {
  Parameter *q1 = nullptr, *k1 = nullptr, *q2 = nullptr, *k2 = nullptr;
  double init = 0;
  bool trains() const {  // any of the four
    for (const Parameter* p : {q1, k1, q2, k2}) {
      if (p->grad.defined()) return true;
    }
    return false;
  }
};

// o [T, H, N], contiguous -> [T, H / 2, N]: o_(2i) - lambda o_(2i+1).
Tensor pair_difference(const Context& ctx, const Tensor& o, const Lambda& lambda);

// The gradient of o; adds to those of lambda's vectors.
Tensor pair_difference_backward(const Context& ctx, const Tensor& o, const Lambda& lambda,
                                const Tensor& d_y);

}  // namespace braid
