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
  V sum = hn::Zero(d);
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
  for (int j = r.missing; j < f.taps; ++j) {
    float* into = dw + j * lddw + c;
    const V sum = hn::MulAdd(g, load(r.row[j] + c), load(into));
    if constexpr (kPart) {
      hn::BlendedStore(sum, part, d, into);
    } else {
      hn::StoreU(sum, d, into);
    }
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

// dx_u = sum_j w_j dz_{u + taps - 1 - j}; dz[i] is the row u + i.
void input_gradient_row(const ConvFilter& f, const float* const* dz, int64_t channels, float* dx) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t c = 0; c < channels; c += lanes) {
    const auto part = hn::FirstN(d, static_cast<size_t>(std::min<int64_t>(lanes, channels - c)));
    V sum = hn::Zero(d);
    for (int j = 0; j < f.taps; ++j) {
      sum = hn::MulAdd(hn::MaskedLoad(part, d, f.w + j * f.ldw + c),
                       hn::LoadU(d, dz[f.taps - 1 - j] + c), sum);
    }
    hn::BlendedStore(sum, part, d, dx + c);
  }
}

void backward(const ConvFilter& f, ConvRows rows, int64_t channels, const float* x, int64_t ldx,
              const float* dy, int64_t ldy, float* dx, int64_t lddx, float* dw, int64_t lddw) {
  // dz of the last `taps` rows; row t lives in slot t mod taps. Room for a vector past the block's
  // end.
  HWY_ALIGN float ring[kMaxConvTaps][kConvBackwardBlock + 16];
  const int taps = f.taps;
  for (int64_t t = rows.begin; t < rows.end + taps - 1; ++t) {
    float* dz = ring[t % taps];
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
    const float* ahead[kMaxConvTaps];
    for (int i = 0; i < taps; ++i) ahead[i] = ring[(u + i) % taps];
    input_gradient_row(f, ahead, channels, dx + u * lddx);
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
