#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/activation/activation_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "braid/kernels/activation/activation.h"

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// 1 / (1 + e^-x), the exponential taken of -|x| so that it cannot overflow.
V sigmoid(D d, V x) {
  const V e = hn::Exp(d, hn::Neg(hn::Abs(x)));
  const V positive = hn::Div(hn::Set(d, 1.0f), hn::Add(hn::Set(d, 1.0f), e));
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Mul(e, positive), positive);
}

// Calls f(load, store) for whole vectors and once for the rest; load(p) and store(v, p) take
// pointers to the start.
template <typename F>
void for_vectors(int64_t n, F f) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    f([&](const float* p) { return hn::LoadU(d, p + i); },
      [&](V v, float* p) { hn::StoreU(v, d, p + i); });
  }
  if (i < n) {
    const auto mask = hn::FirstN(d, static_cast<size_t>(n - i));
    f([&](const float* p) { return hn::MaskedLoad(mask, d, p + i); },
      [&](V v, float* p) { hn::BlendedStore(v, mask, d, p + i); });
  }
}

void sigmoid_n(const float* x, float* y, int64_t n) {
  const D d;
  for_vectors(n, [&](auto load, auto store) { store(sigmoid(d, load(x)), y); });
}

void sigmoid_backward_n(const float* y, const float* dy, float* dx, int64_t n) {
  for_vectors(n, [&](auto load, auto store) {
    const V s = load(y);
    store(hn::Mul(load(dy), hn::NegMulAdd(s, s, s)), dx);
  });
}

void silu_n(const float* x, float* y, int64_t n) {
  const D d;
  for_vectors(n, [&](auto load, auto store) { store(hn::Mul(load(x), sigmoid(d, load(x))), y); });
}

// d silu / dx = s (1 + x (1 - s))
V silu_slope(D d, V x, V s) {
  const V one = hn::Set(d, 1.0f);
  return hn::Mul(s, hn::MulAdd(x, hn::Sub(one, s), one));
}

void silu_backward_n(const float* x, const float* dy, float* dx, int64_t n) {
  const D d;
  for_vectors(n, [&](auto load, auto store) {
    const V v = load(x);
    store(hn::Mul(load(dy), silu_slope(d, v, sigmoid(d, v))), dx);
  });
}

void silu_mul_n(const float* gate, const float* up, float* y, int64_t n) {
  const D d;
  for_vectors(n, [&](auto load, auto store) {
    const V g = load(gate);
    store(hn::Mul(hn::Mul(g, sigmoid(d, g)), load(up)), y);
  });
}

void silu_mul_backward_n(const float* gate, const float* up, const float* dy, float* dgate,
                         float* dup, int64_t n) {
  const D d;
  for_vectors(n, [&](auto load, auto store) {
    const V g = load(gate), s = sigmoid(d, g), out = load(dy), u = load(up);
    store(hn::Mul(hn::Mul(out, u), silu_slope(d, g, s)), dgate);
    store(hn::Mul(out, hn::Mul(g, s)), dup);
  });
}

void sigmoid_mul_n(const float* x, const float* gate, float* y, int64_t n) {
  const D d;
  for_vectors(n,
              [&](auto load, auto store) { store(hn::Mul(load(x), sigmoid(d, load(gate))), y); });
}

void sigmoid_mul_backward_n(const float* x, const float* gate, const float* dy, float* dx,
                            float* dgate, int64_t n) {
  const D d;
  for_vectors(n, [&](auto load, auto store) {
    const V s = sigmoid(d, load(gate)), out = load(dy), v = load(x);
    store(hn::Mul(hn::Mul(out, v), hn::NegMulAdd(s, s, s)), dgate);
    store(hn::Mul(out, s), dx);
  });
}

void softcap_n(const float* x, float cap, float* y, int64_t n) {
  const D d;
  const V size = hn::Set(d, cap), by = hn::Set(d, 1.0f / cap);
  for_vectors(n, [&](auto load, auto store) {
    store(hn::Mul(size, hn::Tanh(d, hn::Mul(load(x), by))), y);
  });
}

}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(softcap_n);
HWY_EXPORT(sigmoid_n);
HWY_EXPORT(sigmoid_backward_n);
HWY_EXPORT(silu_n);
HWY_EXPORT(silu_backward_n);
HWY_EXPORT(silu_mul_n);
HWY_EXPORT(silu_mul_backward_n);
HWY_EXPORT(sigmoid_mul_n);
HWY_EXPORT(sigmoid_mul_backward_n);

void sigmoid_f32(const float* x, float* y, int64_t n) { HWY_DYNAMIC_DISPATCH(sigmoid_n)(x, y, n); }

void sigmoid_backward_f32(const float* y, const float* dy, float* dx, int64_t n) {
  HWY_DYNAMIC_DISPATCH(sigmoid_backward_n)(y, dy, dx, n);
}

void silu_f32(const float* x, float* y, int64_t n) { HWY_DYNAMIC_DISPATCH(silu_n)(x, y, n); }

void silu_backward_f32(const float* x, const float* dy, float* dx, int64_t n) {
  HWY_DYNAMIC_DISPATCH(silu_backward_n)(x, dy, dx, n);
}

void silu_mul_f32(const float* gate, const float* up, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(silu_mul_n)(gate, up, y, n);
}

void silu_mul_backward_f32(const float* gate, const float* up, const float* dy, float* dgate,
                           float* dup, int64_t n) {
  HWY_DYNAMIC_DISPATCH(silu_mul_backward_n)(gate, up, dy, dgate, dup, n);
}

void sigmoid_mul_f32(const float* x, const float* gate, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(sigmoid_mul_n)(x, gate, y, n);
}

void sigmoid_mul_backward_f32(const float* x, const float* gate, const float* dy, float* dx,
                              float* dgate, int64_t n) {
  HWY_DYNAMIC_DISPATCH(sigmoid_mul_backward_n)(x, gate, dy, dx, dgate, n);
}

void softcap_f32(const float* x, float cap, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(softcap_n)(x, cap, y, n);
}

}  // namespace braid
#endif
