#include "braid/layers/mixers/linear/normalizer.h"

#include <algorithm>
#include <cmath>

#include "braid/core/parallel.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements per range

int64_t rows_per_range(int64_t columns) { return std::max<int64_t>(1, kGrain / columns); }

Tensor feature_map_backward(const Context& ctx, const Tensor& y, FeatureMap map,
                            const Tensor& d_y) {
  Tensor d_x = Tensor::empty(ctx, y.shape());
  parallel_for(ctx, y.count(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float f = y.data()[i];
      // elu(x) + 1 is e^x, its own slope, up to 1 and x + 1 beyond.
      const float slope = map == FeatureMap::kElu ? std::min(f, 1.0f) : f > 0 ? 1.0f : 0.0f;
      d_x.data()[i] = slope * d_y.data()[i];
    }
  });
  return d_x;
}

Tensor without_last(const Context& ctx, const Tensor& d_y) {
  const int64_t rows = d_y.size(0) * d_y.size(1), n = d_y.size(2) - 1;
  Tensor d_v = Tensor::empty(ctx, {d_y.size(0), d_y.size(1), n});
  parallel_for(ctx, rows, rows_per_range(n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* from = d_y.data() + r * (n + 1);
      std::copy(from, from + n, d_v.data() + r * n);
    }
  });
  return d_v;
}

Tensor over_last_backward(const Context& ctx, const Tensor& o, const Tensor& y, float eps,
                          const Tensor& d_y) {
  const int64_t rows = y.size(0) * y.size(1), n = y.size(2);
  Tensor d_o = Tensor::empty(ctx, o.shape());
  parallel_for(ctx, rows, rows_per_range(n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* to = d_o.data() + r * (n + 1);
      const float inverse = 1.0f / (o.data()[r * (n + 1) + n] + eps);
      float dot = 0;
      for (int64_t i = 0; i < n; ++i) {
        to[i] = inverse * d_y.data()[r * n + i];
        dot += to[i] * y.data()[r * n + i];
      }
      to[n] = -dot;
    }
  });
  return d_o;
}

}  // namespace

Tensor feature_map(const Context& ctx, const Tensor& x, FeatureMap map) {
  if (map == FeatureMap::kIdentity) return x;
  if (map == FeatureMap::kSilu) return silu(ctx, x);
  const Rows in = rows_of(x);
  Tensor y = Tensor::empty(ctx, x.shape());
  parallel_for(ctx, in.rows, rows_per_range(in.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < in.cols; ++c) {
        const float value = x.data()[r * in.stride + c];
        const float below = map == FeatureMap::kElu ? std::exp(std::min(value, 0.0f)) : 0.0f;
        y.data()[r * in.cols + c] = below + std::max(value, 0.0f);
      }
    }
  });
  if (Tape* tape = recording(ctx, {&x})) {
    tape->record(y, [x, y = y, map](Tape& t, const Tensor& d_y) {
      t.add(x, feature_map_backward(t.context(), y, map, d_y));
    });
  }
  return y;
}

Tensor with_ones(const Context& ctx, const Tensor& v) {
  BRAID_CHECK(v.rank() == 3);
  const int64_t heads = v.size(1), n = v.size(2), stride = rows_of(v).stride;
  Tensor y = Tensor::empty(ctx, {v.size(0), heads, n + 1});
  parallel_for(ctx, v.size(0), rows_per_range(heads * n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin * heads; r < end * heads; ++r) {
      const float* from = v.data() + r / heads * stride + r % heads * n;
      float* to = y.data() + r * (n + 1);
      std::copy(from, from + n, to);
      to[n] = 1;
    }
  });
  if (Tape* tape = recording(ctx, {&v})) {
    tape->record(y, [v](Tape& t, const Tensor& d_y) { t.add(v, without_last(t.context(), d_y)); });
  }
  return y;
}

Tensor over_last(const Context& ctx, const Tensor& o, float eps) {
  BRAID_CHECK(o.rank() == 3 && o.contiguous() && o.size(2) > 1);
  const int64_t rows = o.size(0) * o.size(1), n = o.size(2) - 1;
  Tensor y = Tensor::empty(ctx, {o.size(0), o.size(1), n});
  parallel_for(ctx, rows, rows_per_range(n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* from = o.data() + r * (n + 1);
      const float inverse = 1.0f / (from[n] + eps);
      for (int64_t i = 0; i < n; ++i) y.data()[r * n + i] = inverse * from[i];
    }
  });
  if (Tape* tape = recording(ctx, {&o})) {
    tape->record(y, [o, y = y, eps](Tape& t, const Tensor& d_y) {
      t.add(o, over_last_backward(t.context(), o, y, eps, d_y));
    });
  }
  return y;
}

}  // namespace braid
