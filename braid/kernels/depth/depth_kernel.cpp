#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/depth/depth_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "braid/kernels/depth/depth.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // other kernel files have functions of the same names

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// Calls body(c, load, store) for whole vectors of columns and once, masked, for the rest.
template <class Body>
HWY_INLINE void for_columns(int64_t columns, const Body& body) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= columns; c += lanes) {
    body([&](const float* p) { return hn::LoadU(d, p + c); },
         [&](V v, float* p) { hn::StoreU(v, d, p + c); });
  }
  if (c < columns) {
    const auto m = hn::FirstN(d, static_cast<size_t>(columns - c));
    body([&](const float* p) { return hn::MaskedLoad(m, d, p + c); },
         [&](V v, float* p) { hn::BlendedStore(v, m, d, p + c); });
  }
}

struct Score {
  float dot;  // u . v
  float r;
};

HWY_INLINE Score score(const float* u, const float* v, int64_t width, float eps) {
  const D d;
  V dot = hn::Zero(d), squares = hn::Zero(d);
  for_columns(width, [&](auto load, auto) {
    const V x = load(v);
    dot = hn::MulAdd(x, load(u), dot);
    squares = hn::MulAdd(x, x, squares);
  });
  const float mean = hn::GetLane(hn::SumOfLanes(d, squares)) / static_cast<float>(width);
  return {hn::GetLane(hn::SumOfLanes(d, dot)), 1.0f / std::sqrt(mean + eps)};
}

HWY_INLINE float dot_product(const float* a, const float* b, int64_t width) {
  const D d;
  V dot = hn::Zero(d);
  for_columns(width, [&](auto load, auto) { dot = hn::MulAdd(load(a), load(b), dot); });
  return hn::GetLane(hn::SumOfLanes(d, dot));
}

// out = (add ? out : 0) + a x
HWY_INLINE void scaled_row(float a, const float* x, int64_t width, bool add, float* out) {
  const D d;
  const V by = hn::Set(d, a);
  if (add) {
    for_columns(width,
                [&](auto load, auto store) { store(hn::MulAdd(by, load(x), load(out)), out); });
  } else {
    for_columns(width, [&](auto load, auto store) { store(hn::Mul(by, load(x)), out); });
  }
}

// out = sum_s weight_s v_s. Two sources a pass halve the traffic of `out`.
HWY_INLINE void weighted_sum(const float* const* v, int64_t at, int64_t sources, int64_t width,
                             const float* weights, int64_t weight_stride, float* out) {
  const D d;
  scaled_row(weights[0], v[0] + at, width, false, out);
  int64_t s = 1;
  for (; s + 2 <= sources; s += 2) {
    const V wa = hn::Set(d, weights[s * weight_stride]);
    const V wb = hn::Set(d, weights[(s + 1) * weight_stride]);
    const float *a = v[s] + at, *b = v[s + 1] + at;
    for_columns(width, [&](auto load, auto store) {
      store(hn::MulAdd(wb, load(b), hn::MulAdd(wa, load(a), load(out))), out);
    });
  }
  if (s < sources) scaled_row(weights[s * weight_stride], v[s] + at, width, true, out);
}

constexpr int64_t kStatFloats = sizeof(DepthStat) / sizeof(float);

void softmax_rows(const DepthRead& read, int64_t rows, float* h, DepthStat* stats) {
  for (int64_t t = 0; t < rows; ++t) {
    DepthStat* stat = stats + t * read.sources;
    const int64_t at = t * read.width;
    float top = -INFINITY;
    for (int64_t s = 0; s < read.sources; ++s) {
      const Score x = score(read.u, read.v[s] + at, read.width, read.eps);
      stat[s] = {0, x.r, x.r * x.dot};
      top = std::max(top, read.scale * stat[s].logit);
    }
    float sum = 0;
    for (int64_t s = 0; s < read.sources; ++s) {
      stat[s].alpha = std::exp(read.scale * stat[s].logit - top);
      sum += stat[s].alpha;
    }
    for (int64_t s = 0; s < read.sources; ++s) stat[s].alpha /= sum;
    weighted_sum(read.v, at, read.sources, read.width, &stat->alpha, kStatFloats, h + at);
  }
}

// dv (+)= alpha dh + a u - b v,  du += a v
template <bool kAdd>
HWY_INLINE void source_gradient(float alpha, float a, float b, const float* v, const float* u,
                                const float* dh, int64_t width, float* dv, float* du) {
  const D d;
  const V va = hn::Set(d, a), vb = hn::Set(d, b), valpha = hn::Set(d, alpha);
  for_columns(width, [&](auto load, auto store) {
    const V x = load(v);
    V g = hn::NegMulAdd(vb, x, hn::Mul(va, load(u)));
    g = hn::MulAdd(valpha, load(dh), g);
    if constexpr (kAdd) g = hn::Add(g, load(dv));
    store(g, dv);
    store(hn::MulAdd(va, x, load(du)), du);
  });
}

void softmax_backward_rows(const DepthRead& read, int64_t rows, const DepthStat* stats,
                           const float* dh, float* const* dv, const bool* add, float* du,
                           float* dp) {
  const int64_t width = read.width;
  for (int64_t t = 0; t < rows; ++t) {
    const DepthStat* stat = stats + t * read.sources;
    const int64_t at = t * width;
    float mean = 0;
    for (int64_t s = 0; s < read.sources; ++s) {
      dp[s] = dot_product(dh + at, read.v[s] + at, width);
      mean += stat[s].alpha * dp[s];
    }
    for (int64_t s = 0; s < read.sources; ++s) {
      const float* v = read.v[s] + at;
      const float a = read.scale * stat[s].alpha * (dp[s] - mean) * stat[s].r;
      const float b = a * stat[s].r * stat[s].logit / static_cast<float>(width);
      if (dv[s] == nullptr) {
        scaled_row(a, v, width, true, du);
      } else if (add[s]) {
        source_gradient<true>(stat[s].alpha, a, b, v, read.u, dh + at, width, dv[s] + at, du);
      } else {
        source_gradient<false>(stat[s].alpha, a, b, v, read.u, dh + at, width, dv[s] + at, du);
      }
    }
  }
}

void partial_rows(const DepthRead& read, int64_t queries, int64_t rows, int64_t ld, float* m,
                  float* z, float* sum, float* weights) {
  const int64_t width = read.width, sources = read.sources;
  for (int64_t t = 0; t < rows; ++t) {
    const int64_t at = t * width;
    for (int64_t s = 0; s < sources; ++s) {
      const float* v = read.v[s] + at;
      const Score first = score(read.u, v, width, read.eps);
      const float by = read.scale * first.r;
      weights[s] = by * first.dot;
      for (int64_t q = 1; q < queries; ++q) {
        weights[q * sources + s] = by * dot_product(read.u + q * width, v, width);
      }
    }
    for (int64_t q = 0; q < queries; ++q) {
      float* w = weights + q * sources;
      const float top = *std::max_element(w, w + sources);
      float total = 0;
      for (int64_t s = 0; s < sources; ++s) {
        w[s] = std::exp(w[s] - top);
        total += w[s];
      }
      m[q * ld + t] = top;
      z[q * ld + t] = total;
      weighted_sum(read.v, at, sources, width, w, 1, sum + q * ld * width + at);
    }
  }
}

void merge_rows(int64_t rows, int64_t width, const float* u, float eps, float scale, const float* m,
                const float* z, const float* sum, const float* p, float* h) {
  const D d;
  for (int64_t t = 0; t < rows; ++t) {
    const int64_t at = t * width;
    if (p == nullptr) {
      scaled_row(1.0f / z[t], sum + at, width, false, h + at);
      continue;
    }
    const Score x = score(u, p + at, width, eps);
    const float logit = scale * x.r * x.dot, top = std::max(m[t], logit);
    const float old = std::exp(m[t] - top), fresh = std::exp(logit - top);
    const float inverse = 1.0f / (old * z[t] + fresh);
    const V wa = hn::Set(d, old * inverse), wb = hn::Set(d, fresh * inverse);
    for_columns(width, [&](auto load, auto store) {
      store(hn::MulAdd(wb, load(p + at), hn::Mul(wa, load(sum + at))), h + at);
    });
  }
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(softmax_rows);
HWY_EXPORT(softmax_backward_rows);
HWY_EXPORT(partial_rows);
HWY_EXPORT(merge_rows);

void depth_softmax_f32(const DepthRead& read, int64_t rows, float* h, DepthStat* stats) {
  HWY_DYNAMIC_DISPATCH(softmax_rows)(read, rows, h, stats);
}

void depth_softmax_backward_f32(const DepthRead& read, int64_t rows, const DepthStat* stats,
                                const float* dh, float* const* dv, const bool* add, float* du,
                                float* scratch) {
  HWY_DYNAMIC_DISPATCH(softmax_backward_rows)(read, rows, stats, dh, dv, add, du, scratch);
}

void depth_partial_f32(const DepthRead& read, int64_t queries, int64_t rows, int64_t ld, float* m,
                       float* z, float* sum, float* scratch) {
  HWY_DYNAMIC_DISPATCH(partial_rows)(read, queries, rows, ld, m, z, sum, scratch);
}

void depth_merge_f32(int64_t rows, int64_t width, const float* u, float eps, float scale,
                     const float* m, const float* z, const float* sum, const float* p, float* h) {
  HWY_DYNAMIC_DISPATCH(merge_rows)(rows, width, u, eps, scale, m, z, sum, p, h);
}

}  // namespace braid
#endif
