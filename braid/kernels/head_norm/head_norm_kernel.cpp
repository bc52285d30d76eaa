#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/head_norm/head_norm_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "braid/kernels/head_norm/head_norm.h"
#include "braid/kernels/simd/sigmoid_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // other kernel files have functions of the same names

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

template <class Body>
HWY_INLINE void for_channels(int64_t size, const Body& body) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t c = 0; c < size; c += lanes) {
    body(c, hn::FirstN(d, static_cast<size_t>(std::min(lanes, size - c))));
  }
}

template <class Body>
HWY_INLINE void for_heads(HeadLayout n, const Body& body) {
  for (int64_t r = 0; r < n.rows; ++r) {
    for (int64_t h = 0; h < n.heads; ++h) body(r, h, (r * n.heads + h) * n.size);
  }
}

HWY_INLINE float sum_of_squares(int64_t size, const float* x) {
  const D d;
  V sum = hn::Zero(d);
  for_channels(size, [&](int64_t c, hn::Mask<D> m) {
    const V v = hn::MaskedLoad(m, d, x + c);
    sum = hn::MulAdd(v, v, sum);
  });
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

void l2(HeadLayout n, float eps, const float* x, HeadStrides xs, float* y) {
  const D d;
  for_heads(n, [&](int64_t r, int64_t h, int64_t at) {
    const float* in = x + r * xs.row + h * xs.head;
    const V rho = hn::Set(d, 1.0f / std::sqrt(sum_of_squares(n.size, in) + eps));
    for_channels(n.size, [&](int64_t c, hn::Mask<D> m) {
      hn::BlendedStore(hn::Mul(rho, hn::MaskedLoad(m, d, in + c)), m, d, y + at + c);
    });
  });
}

void l2_backward(HeadLayout n, float eps, const float* x, HeadStrides xs, const float* dy,
                 float* dx) {
  const D d;
  for_heads(n, [&](int64_t r, int64_t h, int64_t at) {
    const float* in = x + r * xs.row + h * xs.head;
    V squares = hn::Zero(d), dots = hn::Zero(d);
    for_channels(n.size, [&](int64_t c, hn::Mask<D> m) {
      const V v = hn::MaskedLoad(m, d, in + c);
      squares = hn::MulAdd(v, v, squares);
      dots = hn::MulAdd(v, hn::MaskedLoad(m, d, dy + at + c), dots);
    });
    const float rho = 1.0f / std::sqrt(hn::GetLane(hn::SumOfLanes(d, squares)) + eps);
    const V scale = hn::Set(d, rho);
    const V along = hn::Set(d, rho * rho * hn::GetLane(hn::SumOfLanes(d, dots)));
    for_channels(n.size, [&](int64_t c, hn::Mask<D> m) {
      const V across =
          hn::NegMulAdd(hn::MaskedLoad(m, d, in + c), along, hn::MaskedLoad(m, d, dy + at + c));
      hn::BlendedStore(hn::Mul(scale, across), m, d, dx + at + c);
    });
  });
}

template <GateAct kAct>
void gated_heads(HeadLayout n, float eps, const float* x, HeadStrides xs, const float* z,
                 HeadStrides zs, const float* w, float* y) {
  const D d;
  for_heads(n, [&](int64_t r, int64_t h, int64_t at) {
    const float* in = x + r * xs.row + h * xs.head;
    const float* gate = z + r * zs.row + h * zs.head;
    const float mean = sum_of_squares(n.size, in) / static_cast<float>(n.size);
    const V rho = hn::Set(d, 1.0f / std::sqrt(mean + eps));
    for_channels(n.size, [&](int64_t c, hn::Mask<D> m) {
      const V zv = hn::MaskedLoad(m, d, gate + c);
      V act = sigmoid(d, zv);
      if constexpr (kAct == GateAct::kSilu) act = hn::Mul(zv, act);
      const V normed =
          hn::Mul(hn::Mul(rho, hn::MaskedLoad(m, d, in + c)), hn::MaskedLoad(m, d, w + c));
      hn::BlendedStore(hn::Mul(normed, act), m, d, y + at + c);
    });
  });
}

template <GateAct kAct>
void gated_heads_backward(HeadLayout n, float eps, const float* x, HeadStrides xs, const float* z,
                          HeadStrides zs, const float* w, const float* dy, float* dx, float* dz,
                          float* dw) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  for_heads(n, [&](int64_t r, int64_t h, int64_t at) {
    const float* in = x + r * xs.row + h * xs.head;
    const float* gate = z + r * zs.row + h * zs.head;
    const float mean = sum_of_squares(n.size, in) / static_cast<float>(n.size);
    const V rho = hn::Set(d, 1.0f / std::sqrt(mean + eps));
    V dots = hn::Zero(d);
    // dx first holds h = dy w act(z); the mean of h x / |x| is known only after the row.
    for_channels(n.size, [&](int64_t c, hn::Mask<D> m) {
      const V zv = hn::MaskedLoad(m, d, gate + c);
      const V up = hn::MaskedLoad(m, d, dy + at + c);
      const V weight = hn::MaskedLoad(m, d, w + c);
      const V unit = hn::Mul(rho, hn::MaskedLoad(m, d, in + c));
      const V s = sigmoid(d, zv);
      V act, slope;
      if constexpr (kAct == GateAct::kSilu) {
        act = hn::Mul(zv, s);
        slope = silu_slope(d, zv, s);
      } else {
        act = s;
        slope = hn::Mul(s, hn::Sub(one, s));
      }
      const V up_act = hn::Mul(up, act), up_weight = hn::Mul(up, weight);
      const V inner = hn::Mul(up_act, weight);
      dots = hn::MulAdd(inner, unit, dots);
      hn::BlendedStore(inner, m, d, dx + at + c);
      hn::BlendedStore(hn::Mul(hn::Mul(up_weight, unit), slope), m, d, dz + at + c);
      hn::BlendedStore(hn::MulAdd(up_act, unit, hn::MaskedLoad(m, d, dw + c)), m, d, dw + c);
    });
    const V mean_dot =
        hn::Set(d, hn::GetLane(hn::SumOfLanes(d, dots)) / static_cast<float>(n.size));
    for_channels(n.size, [&](int64_t c, hn::Mask<D> m) {
      const V unit = hn::Mul(rho, hn::MaskedLoad(m, d, in + c));
      const V across = hn::NegMulAdd(unit, mean_dot, hn::MaskedLoad(m, d, dx + at + c));
      hn::BlendedStore(hn::Mul(rho, across), m, d, dx + at + c);
    });
  });
}

void gated(HeadLayout n, float eps, GateAct act, const float* x, HeadStrides xs, const float* z,
           HeadStrides zs, const float* w, float* y) {
  if (act == GateAct::kSilu) return gated_heads<GateAct::kSilu>(n, eps, x, xs, z, zs, w, y);
  gated_heads<GateAct::kSigmoid>(n, eps, x, xs, z, zs, w, y);
}

void gated_backward(HeadLayout n, float eps, GateAct act, const float* x, HeadStrides xs,
                    const float* z, HeadStrides zs, const float* w, const float* dy, float* dx,
                    float* dz, float* dw) {
  if (act == GateAct::kSilu) {
    return gated_heads_backward<GateAct::kSilu>(n, eps, x, xs, z, zs, w, dy, dx, dz, dw);
  }
  gated_heads_backward<GateAct::kSigmoid>(n, eps, x, xs, z, zs, w, dy, dx, dz, dw);
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(l2);
HWY_EXPORT(l2_backward);
HWY_EXPORT(gated);
HWY_EXPORT(gated_backward);

void l2_norm_f32(HeadLayout n, float eps, const float* x, HeadStrides xs, float* y) {
  HWY_DYNAMIC_DISPATCH(l2)(n, eps, x, xs, y);
}

void l2_norm_backward_f32(HeadLayout n, float eps, const float* x, HeadStrides xs, const float* dy,
                          float* dx) {
  HWY_DYNAMIC_DISPATCH(l2_backward)(n, eps, x, xs, dy, dx);
}

void gated_norm_f32(HeadLayout n, float eps, GateAct act, const float* x, HeadStrides xs,
                    const float* z, HeadStrides zs, const float* w, float* y) {
  HWY_DYNAMIC_DISPATCH(gated)(n, eps, act, x, xs, z, zs, w, y);
}

void gated_norm_backward_f32(HeadLayout n, float eps, GateAct act, const float* x, HeadStrides xs,
                             const float* z, HeadStrides zs, const float* w, const float* dy,
                             float* dx, float* dz, float* dw) {
  HWY_DYNAMIC_DISPATCH(gated_backward)(n, eps, act, x, xs, z, zs, w, dy, dx, dz, dw);
}

}  // namespace braid
#endif
