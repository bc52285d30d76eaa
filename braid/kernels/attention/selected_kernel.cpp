#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/attention/selected_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "braid/kernels/attention/selected.h"
#include "braid/kernels/simd/exp2_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // other kernel files have functions of the same names

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));
constexpr float kLog2E = 1.44269504088896341f;

template <class Body>
HWY_INLINE void for_vectors(int64_t n, const Body& body) {
  for (int64_t c = 0; c < n; c += kLanes) {
    body(c, hn::FirstN(D(), static_cast<size_t>(std::min(kLanes, n - c))));
  }
}

float dot(const float* a, const float* b, int64_t n) {
  V sum = hn::Zero(D());
  for_vectors(n, [&](int64_t c, hn::Mask<D> m) {
    sum = hn::MulAdd(hn::MaskedLoad(m, D(), a + c), hn::MaskedLoad(m, D(), b + c), sum);
  });
  return hn::GetLane(hn::SumOfLanes(D(), sum));
}

// to += by * from
HWY_INLINE void add_scaled(float by, const float* from, int64_t n, float* to) {
  const V factor = hn::Set(D(), by);
  for_vectors(n, [&](int64_t c, hn::Mask<D> m) {
    const V sum =
        hn::MulAdd(factor, hn::MaskedLoad(m, D(), from + c), hn::MaskedLoad(m, D(), to + c));
    hn::BlendedStore(sum, m, D(), to + c);
  });
}

void forward(const SelectedKeys& s, const float* q, float scale, float* p, float* out) {
  std::fill_n(out, s.dv, 0.0f);
  if (s.count == 0) return;
  float most = -1e30f;
  for (int64_t i = 0; i < s.count; ++i) {
    p[i] = scale * kLog2E * dot(q, s.key(i), s.d);
    most = std::max(most, p[i]);
  }
  V sums = hn::Zero(D());
  for_vectors(s.count, [&](int64_t c, hn::Mask<D> m) {
    const V e = hn::IfThenElseZero(
        m, exp2_fast(D(), hn::Sub(hn::MaskedLoad(m, D(), p + c), hn::Set(D(), most))));
    hn::BlendedStore(e, m, D(), p + c);
    sums = hn::Add(sums, e);
  });
  const float inverse = 1.0f / hn::GetLane(hn::SumOfLanes(D(), sums));
  for (int64_t i = 0; i < s.count; ++i) {
    p[i] *= inverse;
    add_scaled(p[i], s.value(i), s.dv, out);
  }
}

void backward(const SelectedKeys& s, const float* q, float scale, const float* p, const float* out,
              const float* d_out, float* dq, float* dk, int64_t ld_dk, float* dv, int64_t ld_dv,
              float* ds) {
  std::fill_n(dq, s.d, 0.0f);
  const float along = dot(d_out, out, s.dv);
  for (int64_t i = 0; i < s.count; ++i) {
    const int64_t key = s.keys[i];
    ds[i] = scale * p[i] * (dot(d_out, s.value(i), s.dv) - along);
    add_scaled(p[i], d_out, s.dv, dv + key * ld_dv);
    add_scaled(ds[i], q, s.d, dk + key * ld_dk);
    add_scaled(ds[i], s.key(i), s.d, dq);
  }
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(forward);
HWY_EXPORT(backward);
HWY_EXPORT(dot);

void selected_attention_f32(const SelectedKeys& s, const float* q, float scale, float* p,
                            float* out) {
  HWY_DYNAMIC_DISPATCH(forward)(s, q, scale, p, out);
}

void selected_attention_backward_f32(const SelectedKeys& s, const float* q, float scale,
                                     const float* p, const float* out, const float* d_out,
                                     float* dq, float* dk, int64_t ld_dk, float* dv, int64_t ld_dv,
                                     float* ds) {
  HWY_DYNAMIC_DISPATCH(backward)
  (s, q, scale, p, out, d_out, dq, dk, ld_dk, dv, ld_dv, ds);
}

float dot_f32(const float* a, const float* b, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(dot)(a, b, n);
}

}  // namespace braid
#endif
