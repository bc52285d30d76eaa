#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/moe/moe_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "braid/kernels/moe/moe.h"
#include "braid/kernels/simd/activation_inl.h"
#include "braid/kernels/simd/sigmoid_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // other kernel files have functions of the same names

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// Calls body(c, mask) for every vector of columns; the mask leaves out lanes past the end.
template <class Body>
HWY_INLINE void for_columns(int64_t columns, const Body& body) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t c = 0; c < columns; c += lanes) {
    body(c, hn::FirstN(d, static_cast<size_t>(std::min(lanes, columns - c))));
  }
}

void scores(bool use_sigmoid, int64_t experts, const float* logits, float* s) {
  const D d;
  if (use_sigmoid) {
    for_columns(experts, [&](int64_t c, hn::Mask<D> m) {
      hn::BlendedStore(sigmoid(d, hn::MaskedLoad(m, d, logits + c)), m, d, s + c);
    });
    return;
  }
  const V top = hn::Set(d, *std::max_element(logits, logits + experts));
  V sum = hn::Zero(d);
  for_columns(experts, [&](int64_t c, hn::Mask<D> m) {
    const V e = hn::Exp(d, hn::Sub(hn::MaskedLoad(m, d, logits + c), top));
    sum = hn::Add(sum, hn::IfThenElseZero(m, e));
    hn::BlendedStore(e, m, d, s + c);
  });
  const V inverse = hn::Set(d, 1.0f / hn::GetLane(hn::SumOfLanes(d, sum)));
  for_columns(experts, [&](int64_t c, hn::Mask<D> m) {
    hn::BlendedStore(hn::Mul(inverse, hn::MaskedLoad(m, d, s + c)), m, d, s + c);
  });
}

void weighted_rows(int64_t count, const float* const* rows, const float* weights, int64_t n,
                   float* out) {
  const D d;
  for_columns(n, [&](int64_t c, hn::Mask<D> m) {
    V sum = hn::Zero(d);
    for (int64_t j = 0; j < count; ++j) {
      const V row = hn::MaskedLoad(m, d, rows[j] + c);
      sum = weights != nullptr ? hn::MulAdd(hn::Set(d, weights[j]), row, sum) : hn::Add(sum, row);
    }
    hn::BlendedStore(sum, m, d, out + c);
  });
}

float inner_backward(const Activation& act, int64_t ffn, const float* gate_up, const float* da,
                     float w, float* weighted_a, float* dgate_up) {
  const D d;
  const V weight = hn::Set(d, w);
  V dot = hn::Zero(d);
  with_gate(act, [&](auto gate) {
    for_columns(ffn, [&](int64_t c, hn::Mask<D> m) {
      const V g = hn::MaskedLoad(m, d, gate_up + c);
      const V u = hn::MaskedLoad(m, d, gate_up + ffn + c);
      const V raw = hn::MaskedLoad(m, d, da + c);
      V dg, du;
      const V a = gate.grad(d, g, u, hn::Mul(weight, raw), dg, du);
      dot = hn::MulAdd(raw, a, dot);  // lanes past the end load zeros
      hn::BlendedStore(hn::Mul(weight, a), m, d, weighted_a + c);
      hn::BlendedStore(dg, m, d, dgate_up + c);
      hn::BlendedStore(du, m, d, dgate_up + ffn + c);
    });
  });
  return hn::GetLane(hn::SumOfLanes(d, dot));
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(scores);
HWY_EXPORT(weighted_rows);
HWY_EXPORT(inner_backward);

void router_scores_f32(bool sigmoid, int64_t experts, const float* logits, float* s) {
  HWY_DYNAMIC_DISPATCH(scores)(sigmoid, experts, logits, s);
}

void weighted_rows_f32(int64_t count, const float* const* rows, const float* weights, int64_t n,
                       float* out) {
  HWY_DYNAMIC_DISPATCH(weighted_rows)(count, rows, weights, n, out);
}

float expert_inner_backward_f32(const Activation& act, int64_t ffn, const float* gate_up,
                                const float* da, float w, float* weighted_a, float* dgate_up) {
  return HWY_DYNAMIC_DISPATCH(inner_backward)(act, ffn, gate_up, da, w, weighted_a, dgate_up);
}

}  // namespace braid
#endif
