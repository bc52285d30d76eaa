#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/activation/activation_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "braid/kernels/activation/activation.h"

#include <hwy/contrib/math/math-inl.h>

#include "braid/kernels/simd/activation_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

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

void silu_backward_n(const float* x, const float* dy, float* dx, int64_t n) {
  const D d;
  for_vectors(n, [&](auto load, auto store) {
    const V v = load(x);
    store(hn::Mul(load(dy), silu_slope(d, v, sigmoid(d, v))), dx);
  });
}

void activate_n(Act act, const float* x, float* y, int64_t n) {
  const D d;
  with_act(act, [&](auto f) {
    for_vectors(n, [&](auto load, auto store) {
      V value, slope;
      f.at(d, load(x), value, slope);
      store(value, y);
    });
  });
}

void activate_backward_n(Act act, const float* x, const float* dy, float* dx, int64_t n) {
  const D d;
  with_act(act, [&](auto f) {
    for_vectors(n, [&](auto load, auto store) {
      V value, slope;
      f.at(d, load(x), value, slope);
      store(hn::Mul(load(dy), slope), dx);
    });
  });
}

void gated_n(const Activation& act, const float* gate, const float* up, float* y, int64_t n) {
  const D d;
  with_gate(act, [&](auto f) {
    for_vectors(n, [&](auto load, auto store) { store(f.value(d, load(gate), load(up)), y); });
  });
}

void gated_backward_n(const Activation& act, const float* gate, const float* up, const float* dy,
                      float* dgate, float* dup, int64_t n) {
  const D d;
  with_gate(act, [&](auto f) {
    for_vectors(n, [&](auto load, auto store) {
      V dg, du;
      f.grad(d, load(gate), load(up), load(dy), dg, du);
      store(dg, dgate);
      store(du, dup);
    });
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
HWY_EXPORT(activate_n);
HWY_EXPORT(activate_backward_n);
HWY_EXPORT(gated_n);
HWY_EXPORT(gated_backward_n);
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

void activate_f32(Act act, const float* x, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(activate_n)(act, x, y, n);
}
void activate_backward_f32(Act act, const float* x, const float* dy, float* dx, int64_t n) {
  HWY_DYNAMIC_DISPATCH(activate_backward_n)(act, x, dy, dx, n);
}
void gated_f32(const Activation& act, const float* gate, const float* up, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(gated_n)(act, gate, up, y, n);
}
void gated_backward_f32(const Activation& act, const float* gate, const float* up, const float* dy,
                        float* dgate, float* dup, int64_t n) {
  HWY_DYNAMIC_DISPATCH(gated_backward_n)(act, gate, up, dy, dgate, dup, n);
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
