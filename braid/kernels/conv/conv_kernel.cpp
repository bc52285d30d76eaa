#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/conv/conv_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "braid/kernels/conv/conv.h"
#include "braid/kernels/simd/sigmoid_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // other kernel files have functions of the same names

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// The inputs under the taps of one row, oldest first; the first `missing` lie before the sequence
// and count as zero.
struct TapRows {
  const float* row[kMaxConvTaps];
  int missing = 0;
};

TapRows tap_rows(int taps, int64_t t, const float* x, int64_t ldx, const float* window,
                 int64_t ld_window) {
  TapRows r;
  for (int j = 0; j < taps; ++j) {
    const int64_t u = t - (taps - 1) + j;
    if (u >= 0) {
      r.row[j] = x + u * ldx;
    } else if (window != nullptr) {
      r.row[j] = window + (u + taps - 1) * ld_window;
    } else {
      r.missing = j + 1;
    }
  }
  return r;
}

// kTaps = 0: any number. One vector of channels from c on; kPart: only the first `n` of its lanes
// exist.
template <int kTaps, bool kPart>
HWY_INLINE V filter_sum(D d, const ConvFilter& f, const TapRows& r, int64_t c, hn::Mask<D> part) {
  const auto load = [&](const float* p) {
    if constexpr (kPart) return hn::MaskedLoad(part, d, p);
    return hn::LoadU(d, p);
  };
  V sum = f.bias != nullptr ? load(f.bias + c) : hn::Zero(d);
  if constexpr (kTaps > 0) {
    for (int j = 0; j < kTaps; ++j)
      sum = hn::MulAdd(load(f.w + j * f.ldw + c), load(r.row[j] + c), sum);
  } else {
    for (int j = r.missing; j < f.taps; ++j)
      sum = hn::MulAdd(load(f.w + j * f.ldw + c), load(r.row[j] + c), sum);
  }
  return sum;
}

template <int kTaps>
void conv_row(const ConvFilter& f, const TapRows& r, int64_t channels, float* y) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto act = [&](V z) { return f.silu ? hn::Mul(z, sigmoid(d, z)) : z; };
  int64_t c = 0;
  const auto whole = hn::FirstN(d, static_cast<size_t>(lanes));
  for (; c + lanes <= channels; c += lanes) {
    hn::StoreU(act(filter_sum<kTaps, false>(d, f, r, c, whole)), d, y + c);
  }
  if (c < channels) {
    const auto part = hn::FirstN(d, static_cast<size_t>(channels - c));
    hn::BlendedStore(act(filter_sum<kTaps, true>(d, f, r, c, part)), part, d, y + c);
  }
}

void forward(const ConvFilter& f, ConvRows rows, int64_t channels, const float* x, int64_t ldx,
             const float* window, int64_t ld_window, float* y, int64_t ldy) {
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    const TapRows r = tap_rows(f.taps, t, x, ldx, window, ld_window);
    if (f.taps == 4 && r.missing == 0) {
      conv_row<4>(f, r, channels, y + t * ldy);
    } else {
      conv_row<0>(f, r, channels, y + t * ldy);
    }
  }
}

// dz = dy * act'(z) of one row into `dz`, and its outer product with the inputs into dw when
// `add_dw`.
template <int kTaps, bool kPart>
HWY_INLINE void backward_vector(D d, const ConvFilter& f, const TapRows& r, int64_t c,
                                hn::Mask<D> part, const float* dy, float* dz, float* dw,
                                int64_t lddw, bool add_dw) {
  const auto load = [&](const float* p) {
    if constexpr (kPart) return hn::MaskedLoad(part, d, p);
    return hn::LoadU(d, p);
  };
  V g = load(dy + c);
  if (f.silu) {
    const V z = filter_sum<kTaps, kPart>(d, f, r, c, part);
    g = hn::Mul(g, silu_slope(d, z, sigmoid(d, z)));
  }
  hn::StoreU(g, d, dz + c);  // the buffer holds whole vectors
  if (!add_dw) return;
  const int taps = kTaps > 0 ? kTaps : f.taps;
  const auto store = [&](V v, float* into) {
    if constexpr (kPart) {
      hn::BlendedStore(v, part, d, into);
    } else {
      hn::StoreU(v, d, into);
    }
  };
  for (int j = kTaps > 0 ? 0 : r.missing; j < taps; ++j) {
    float* into = dw + j * lddw + c;
    store(hn::MulAdd(g, load(r.row[j] + c), load(into)), into);
  }
  if (f.bias != nullptr) {
    float* into = dw + taps * lddw + c;
    store(hn::Add(g, load(into)), into);
  }
}

template <int kTaps>
void backward_row(const ConvFilter& f, const TapRows& r, int64_t channels, const float* dy,
                  float* dz, float* dw, int64_t lddw, bool add_dw) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto whole = hn::FirstN(d, static_cast<size_t>(lanes));
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) {
    backward_vector<kTaps, false>(d, f, r, c, whole, dy, dz, dw, lddw, add_dw);
  }
  if (c < channels) {
    const auto part = hn::FirstN(d, static_cast<size_t>(channels - c));
    backward_vector<kTaps, true>(d, f, r, c, part, dy, dz, dw, lddw, add_dw);
  }
}

// dx_u = sum_j w_j dz_{u + taps - 1 - j}; dz[i] is the row u + i, readable up to a whole vector.
template <int kTaps, bool kPart>
HWY_INLINE V input_gradient(D d, const ConvFilter& f, const float* const* dz, int64_t c,
                            hn::Mask<D> part) {
  const int taps = kTaps > 0 ? kTaps : f.taps;
  V sum = hn::Zero(d);
  for (int j = 0; j < taps; ++j) {
    const float* w = f.w + j * f.ldw + c;
    const V weight = kPart ? hn::MaskedLoad(part, d, w) : hn::LoadU(d, w);
    sum = hn::MulAdd(weight, hn::LoadU(d, dz[taps - 1 - j] + c), sum);
  }
  return sum;
}

template <int kTaps>
void input_gradient_row(const ConvFilter& f, const float* const* dz, int64_t channels, float* dx) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto whole = hn::FirstN(d, static_cast<size_t>(lanes));
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) {
    hn::StoreU(input_gradient<kTaps, false>(d, f, dz, c, whole), d, dx + c);
  }
  if (c < channels) {
    const auto part = hn::FirstN(d, static_cast<size_t>(channels - c));
    hn::BlendedStore(input_gradient<kTaps, true>(d, f, dz, c, part), part, d, dx + c);
  }
}

void backward(const ConvFilter& f, ConvRows rows, int64_t channels, const float* x, int64_t ldx,
              const float* dy, int64_t ldy, float* dx, int64_t lddx, float* dw, int64_t lddw) {
  // dz of the last `taps` rows, the newest in slot `newest`; room for a vector past the block's
  // end.
  HWY_ALIGN float ring[kMaxConvTaps][kConvBackwardBlock + 16];
  const int taps = f.taps;
  int newest = taps - 1;
  for (int64_t t = rows.begin; t < rows.end + taps - 1; ++t) {
    newest = newest + 1 == taps ? 0 : newest + 1;
    float* dz = ring[newest];
    if (t < rows.length) {
      const TapRows r = tap_rows(taps, t, x, ldx, nullptr, 0);
      if (taps == 4 && r.missing == 0) {
        backward_row<4>(f, r, channels, dy + t * ldy, dz, dw, lddw, t < rows.end);
      } else {
        backward_row<0>(f, r, channels, dy + t * ldy, dz, dw, lddw, t < rows.end);
      }
    } else {
      std::memset(dz, 0, sizeof ring[0]);
    }
    const int64_t u = t - (taps - 1);
    if (u < rows.begin) continue;
    const float* ahead[kMaxConvTaps];  // row u + i
    for (int i = 0, slot = newest; i < taps; ++i) {
      slot = slot + 1 == taps ? 0 : slot + 1;
      ahead[i] = ring[slot];
    }
    if (taps == 4) {
      input_gradient_row<4>(f, ahead, channels, dx + u * lddx);
    } else {
      input_gradient_row<0>(f, ahead, channels, dx + u * lddx);
    }
  }
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(forward);
HWY_EXPORT(backward);

void short_conv_f32(const ConvFilter& filter, ConvRows rows, int64_t channels, const float* x,
                    int64_t ldx, const float* window, int64_t ld_window, float* y, int64_t ldy) {
  HWY_DYNAMIC_DISPATCH(forward)(filter, rows, channels, x, ldx, window, ld_window, y, ldy);
}

void short_conv_backward_f32(const ConvFilter& filter, ConvRows rows, int64_t channels,
                             const float* x, int64_t ldx, const float* dy, int64_t ldy, float* dx,
                             int64_t lddx, float* dw, int64_t lddw) {
  HWY_DYNAMIC_DISPATCH(backward)(filter, rows, channels, x, ldx, dy, ldy, dx, lddx, dw, lddw);
}

}  // namespace braid
#endif
