#pragma once

#include <string_view>

#include "braid/base/rng.h"
#include "braid/core/parallel.h"
#include "braid/core/tensor.h"
#include "braid/ops/parameter.h"

namespace braid {

// A tensor of independent N(0, std); the same for the same `use`.
inline Tensor normal_tensor(const Context& ctx, Shape shape, double std, std::string_view use) {
  Tensor x = Tensor::empty(ctx, shape);
  const Rng rng(1, use);
  parallel_for(ctx, x.count(), 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) x.data()[i] = static_cast<float>(std * rng.normal(i));
  });
  return x;
}

// Uniform in [low, high).
inline Tensor uniform_tensor(const Context& ctx, Shape shape, double low, double high,
                             std::string_view use) {
  Tensor x = Tensor::empty(ctx, shape);
  const Rng rng(2, use);
  parallel_for(ctx, x.count(), 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      x.data()[i] = static_cast<float>(low + (high - low) * rng.uniform(i));
    }
  });
  return x;
}

}  // namespace braid
