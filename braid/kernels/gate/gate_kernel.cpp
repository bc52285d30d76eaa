#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/gate/gate_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "braid/kernels/gate/gate.h"
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

template <DecayForm kForm>
void decay_rows(const DecayGate& gate, int64_t rows, int64_t columns, const float* a, int64_t lda,
                float* g) {
  const D d;
  const V bound = hn::Set(d, gate.bound);
  for (int64_t r = 0; r < rows; ++r, a += lda, g += columns) {
    for_columns(columns, [&](int64_t c, hn::Mask<D> m) {
      const V rate = hn::MaskedLoad(m, d, gate.rate + c);
      V y = hn::MaskedLoad(m, d, a + c);
      if (gate.bias != nullptr) y = hn::Add(y, hn::MaskedLoad(m, d, gate.bias + c));
      V out;
      if constexpr (kForm == DecayForm::kSoftplus) {
        out = hn::Neg(hn::Mul(rate, softplus(d, y)));
      } else if constexpr (kForm == DecayForm::kLowerBound) {
        out = hn::Mul(bound, sigmoid(d, hn::Mul(rate, y)));
      } else {
        out = hn::Neg(hn::Mul(rate, softplus(d, hn::Neg(y))));
      }
      hn::BlendedStore(out, m, d, g + c);
    });
  }
}

template <DecayForm kForm>
void decay_backward_rows(const DecayGate& gate, int64_t rows, int64_t columns, const float* a,
                         int64_t lda, const float* dg, float* da, float* dbias, float* dlog) {
  const D d;
  const V bound = hn::Set(d, gate.bound), one = hn::Set(d, 1.0f);
  const auto accumulate = [&](V v, hn::Mask<D> m, float* sums, int64_t c) {
    hn::BlendedStore(hn::Add(hn::MaskedLoad(m, d, sums + c), v), m, d, sums + c);
  };
  for (int64_t r = 0; r < rows; ++r, a += lda, dg += columns, da += columns) {
    for_columns(columns, [&](int64_t c, hn::Mask<D> m) {
      const V rate = hn::MaskedLoad(m, d, gate.rate + c);
      const V up = hn::MaskedLoad(m, d, dg + c);
      V y = hn::MaskedLoad(m, d, a + c);
      if (gate.bias != nullptr) y = hn::Add(y, hn::MaskedLoad(m, d, gate.bias + c));
      V dy, dl;
      if constexpr (kForm == DecayForm::kSoftplus) {
        const V scaled = hn::Neg(hn::Mul(rate, up));
        dy = hn::Mul(scaled, sigmoid(d, y));
        dl = hn::Mul(scaled, softplus(d, y));
      } else if constexpr (kForm == DecayForm::kLowerBound) {
        const V s = sigmoid(d, hn::Mul(rate, y));
        const V ds = hn::Mul(hn::Mul(bound, up), hn::Mul(s, hn::Sub(one, s)));
        dy = hn::Mul(rate, ds);
        dl = hn::Mul(dy, y);
      } else {
        const V scaled = hn::Mul(rate, up);
        dy = hn::Mul(scaled, sigmoid(d, hn::Neg(y)));
        dl = hn::Neg(hn::Mul(scaled, softplus(d, hn::Neg(y))));
      }
      hn::BlendedStore(dy, m, d, da + c);
      accumulate(dy, m, dbias, c);
      accumulate(dl, m, dlog, c);
    });
  }
}

void decay(const DecayGate& gate, int64_t rows, int64_t columns, const float* a, int64_t lda,
           float* g) {
  switch (gate.form) {
    case DecayForm::kSoftplus:
      return decay_rows<DecayForm::kSoftplus>(gate, rows, columns, a, lda, g);
    case DecayForm::kLowerBound:
      return decay_rows<DecayForm::kLowerBound>(gate, rows, columns, a, lda, g);
    case DecayForm::kLogSigmoid:
      return decay_rows<DecayForm::kLogSigmoid>(gate, rows, columns, a, lda, g);
  }
}

void decay_backward(const DecayGate& gate, int64_t rows, int64_t columns, const float* a,
                    int64_t lda, const float* dg, float* da, float* dbias, float* dlog) {
  switch (gate.form) {
    case DecayForm::kSoftplus:
      return decay_backward_rows<DecayForm::kSoftplus>(gate, rows, columns, a, lda, dg, da, dbias,
                                                       dlog);
    case DecayForm::kLowerBound:
      return decay_backward_rows<DecayForm::kLowerBound>(gate, rows, columns, a, lda, dg, da, dbias,
                                                         dlog);
    case DecayForm::kLogSigmoid:
      return decay_backward_rows<DecayForm::kLogSigmoid>(gate, rows, columns, a, lda, dg, da, dbias,
                                                         dlog);
  }
}

void scaled_sigmoid(float scale, int64_t rows, int64_t columns, const float* x, int64_t ldx,
                    float* y) {
  const D d;
  const V s = hn::Set(d, scale);
  for (int64_t r = 0; r < rows; ++r, x += ldx, y += columns) {
    for_columns(columns, [&](int64_t c, hn::Mask<D> m) {
      hn::BlendedStore(hn::Mul(s, sigmoid(d, hn::MaskedLoad(m, d, x + c))), m, d, y + c);
    });
  }
}

void scaled_sigmoid_backward(float scale, int64_t count, const float* y, const float* dy,
                             float* dx) {
  const D d;
  const V inverse = hn::Set(d, 1.0f / scale), one = hn::Set(d, 1.0f);
  for_columns(count, [&](int64_t c, hn::Mask<D> m) {
    const V v = hn::MaskedLoad(m, d, y + c);
    const V rest = hn::NegMulAdd(v, inverse, one);
    hn::BlendedStore(hn::Mul(hn::MaskedLoad(m, d, dy + c), hn::Mul(v, rest)), m, d, dx + c);
  });
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(decay);
HWY_EXPORT(decay_backward);
HWY_EXPORT(scaled_sigmoid);
HWY_EXPORT(scaled_sigmoid_backward);

void decay_gate_f32(const DecayGate& gate, int64_t rows, int64_t columns, const float* a,
                    int64_t lda, float* g) {
  HWY_DYNAMIC_DISPATCH(decay)(gate, rows, columns, a, lda, g);
}

void decay_gate_backward_f32(const DecayGate& gate, int64_t rows, int64_t columns, const float* a,
                             int64_t lda, const float* dg, float* da, float* dbias, float* dlog) {
  HWY_DYNAMIC_DISPATCH(decay_backward)(gate, rows, columns, a, lda, dg, da, dbias, dlog);
}

void scaled_sigmoid_f32(float scale, int64_t rows, int64_t columns, const float* x, int64_t ldx,
                        float* y) {
  HWY_DYNAMIC_DISPATCH(scaled_sigmoid)(scale, rows, columns, x, ldx, y);
}

void scaled_sigmoid_backward_f32(float scale, int64_t count, const float* y, const float* dy,
                                 float* dx) {
  HWY_DYNAMIC_DISPATCH(scaled_sigmoid_backward)(scale, count, y, dy, dx);
}

}  // namespace braid
#endif
