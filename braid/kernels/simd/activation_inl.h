// Activations and gated pairs on Highway vectors, with their derivatives, for *_kernel.cpp files.
#if defined(BRAID_KERNELS_SIMD_ACTIVATION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BRAID_KERNELS_SIMD_ACTIVATION_INL_H_
#undef BRAID_KERNELS_SIMD_ACTIVATION_INL_H_
#else
#define BRAID_KERNELS_SIMD_ACTIVATION_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "braid/kernels/simd/activation.h"
#include "braid/kernels/simd/sigmoid_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

// Each has at(d, x, value, slope): the function and its derivative.
struct SiluAct {
  template <class D, class V>
  HWY_INLINE void at(D d, V x, V& value, V& slope) const {
    namespace hn = hwy::HWY_NAMESPACE;
    const V s = sigmoid(d, x);
    value = hn::Mul(x, s);
    slope = silu_slope(d, x, s);
  }
};

// erfc(z) for z >= 0 to 3e-7 of itself: t e^(P(t) - z^2) with t = 1 / (1 + z / 2) and P fitted to
// log(erfc(z) e^(z^2) / t) at the Chebyshev nodes of z in [0, 10].
template <class D, class V>
HWY_INLINE V erfc_positive(D d, V z) {
  namespace hn = hwy::HWY_NAMESPACE;
  const V one = hn::Set(d, 1.0f);
  const V t = hn::Div(one, hn::MulAdd(z, hn::Set(d, 0.5f), one));
  V p = hn::Set(d, 0.14804605f);
  for (const float c : {-0.69753659f, 1.19532767f, -0.74646989f, -0.039866317f, -0.019508004f,
                        0.041395964f, 0.38528363f, 0.99878246f, -1.26545493f}) {
    p = hn::MulAdd(p, t, hn::Set(d, c));
  }
  return hn::Mul(t, hn::Exp(d, hn::NegMulAdd(z, z, p)));
}

struct GeluAct {
  template <class D, class V>
  HWY_INLINE void at(D d, V x, V& value, V& slope) const {
    namespace hn = hwy::HWY_NAMESPACE;
    const V half = hn::Set(d, 0.5f);
    const V tail = hn::Mul(half, erfc_positive(d, hn::Mul(hn::Abs(x), hn::Set(d, 0.70710678f))));
    const V phi = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(hn::Set(d, 1.0f), tail));
    const V density =
        hn::Mul(hn::Set(d, 0.39894228f), hn::Exp(d, hn::Mul(hn::Neg(half), hn::Mul(x, x))));
    value = hn::Mul(x, phi);
    slope = hn::MulAdd(x, density, phi);
  }
};

// x / 2 (1 + tanh v) = x sigmoid(2 v), which keeps its digits in the tail.
struct GeluTanhAct {
  template <class D, class V>
  HWY_INLINE void at(D d, V x, V& value, V& slope) const {
    namespace hn = hwy::HWY_NAMESPACE;
    const V one = hn::Set(d, 1.0f), c = hn::Set(d, 1.5957691216f);  // 2 sqrt(2 / pi)
    const V square = hn::Mul(x, x);
    const V s = sigmoid(d, hn::Mul(hn::Mul(c, x), hn::MulAdd(hn::Set(d, 0.044715f), square, one)));
    const V inner = hn::Mul(c, hn::MulAdd(hn::Set(d, 0.134145f), square, one));
    value = hn::Mul(x, s);
    slope = hn::MulAdd(hn::Mul(value, hn::Sub(one, s)), inner, s);
  }
};

struct Relu2Act {
  template <class D, class V>
  HWY_INLINE void at(D d, V x, V& value, V& slope) const {
    namespace hn = hwy::HWY_NAMESPACE;
    // A comparison keeps a not-a-number, which Max may drop.
    const V positive = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Zero(d), x);
    value = hn::Mul(positive, positive);
    slope = hn::Add(positive, positive);
  }
};

// Gated pairs: value(d, g, u), and grad(d, g, u, dy, dg, du) which gives the value back too.
template <class A>
struct GatedBy {
  A act;
  template <class D, class V>
  HWY_INLINE V value(D d, V g, V u) const {
    V a, slope;
    act.at(d, g, a, slope);
    return hwy::HWY_NAMESPACE::Mul(a, u);
  }
  template <class D, class V>
  HWY_INLINE V grad(D d, V g, V u, V dy, V& dg, V& du) const {
    namespace hn = hwy::HWY_NAMESPACE;
    V a, slope;
    act.at(d, g, a, slope);
    dg = hn::Mul(hn::Mul(dy, u), slope);
    du = hn::Mul(dy, a);
    return hn::Mul(a, u);
  }
};

// No gradient passes where a value was cut off.
struct ClampedGate {
  float limit, alpha;
  template <class D, class V>
  HWY_INLINE V value(D d, V g, V u) const {
    V dg, du;
    return grad(d, g, u, hwy::HWY_NAMESPACE::Zero(d), dg, du);
  }
  template <class D, class V>
  HWY_INLINE V grad(D d, V g, V u, V dy, V& dg, V& du) const {
    namespace hn = hwy::HWY_NAMESPACE;
    const V top = hn::Set(d, limit), gain = hn::Set(d, alpha), one = hn::Set(d, 1.0f);
    const auto high = hn::Gt(g, top);
    const auto outside = hn::Gt(hn::Abs(u), top);
    const V gc = hn::IfThenElse(high, top, g);
    const V uc = hn::Add(hn::IfThenElse(outside, hn::CopySign(top, u), u), one);
    const V s = sigmoid(d, hn::Mul(gain, gc));
    const V a = hn::Mul(gc, s);
    const V slope = hn::Mul(s, hn::MulAdd(hn::Mul(gain, gc), hn::Sub(one, s), one));
    dg = hn::IfThenZeroElse(high, hn::Mul(hn::Mul(dy, uc), slope));
    du = hn::IfThenZeroElse(outside, hn::Mul(dy, a));
    return hn::Mul(a, uc);
  }
};

// use(SiluAct{}) and so on for the activation of that name; kSilu for the one that is gated only.
template <class Use>
HWY_INLINE void with_act(Act act, const Use& use) {
  switch (act) {
    case Act::kGelu:
      return use(GeluAct{});
    case Act::kGeluTanh:
      return use(GeluTanhAct{});
    case Act::kRelu2:
      return use(Relu2Act{});
    default:
      return use(SiluAct{});
  }
}

template <class Use>
HWY_INLINE void with_gate(const Activation& a, const Use& use) {
  if (a.act == Act::kClamped) return use(ClampedGate{a.limit, a.alpha});
  with_act(a.act, [&](auto act) HWY_ATTR { use(GatedBy<decltype(act)>{act}); });
}

}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
