#pragma once

#include <cstdint>

namespace braid {

struct CrossEntropyRow {
  float nll = 0;  // -log p(target), nats
  float lse = 0;  // logsumexp of the (capped) logits
};

// One row of logits z [n]: l = cap tanh(z / cap) when cap > 0, then loss = lse(l) - l[target] (+
// z_coef lse^2). When `scale` is not 0, z becomes scale * d(loss + z_coef lse^2)/dz in place.
CrossEntropyRow cross_entropy_row_f32(float* z, int64_t n, int64_t target, float cap, float z_coef,
                                      float scale);

// p = softmax(z) in place; returns logsumexp(z).
float softmax_row_f32(float* z, int64_t n);

}  // namespace braid
