#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/scan/selective_scan_kernel.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "braid/kernels/scan/selective_scan.h"
#include "braid/kernels/simd/exp2_inl.h"
#include "braid/kernels/simd/sigmoid_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // other kernel files have functions of the same names

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
using M = hn::Mask<D>;

constexpr int64_t kLanes = hn::MaxLanes(D());

// One vector of channels; lanes past the block's end are masked out.
struct Lane {
  int64_t at;
  M mask;
  HWY_INLINE V load(const float* p) const { return hn::MaskedLoad(mask, D(), p + at); }
  HWY_INLINE void store(V v, float* p) const { hn::BlendedStore(v, mask, D(), p + at); }
};

Lane lane_at(int64_t at, int64_t channels) {
  return {at, hn::FirstN(D(), static_cast<size_t>(std::min(kLanes, channels - at)))};
}

// One token of kN states held in registers: h <- a h + dt x B, returns sum h C.
template <int kN>
HWY_INLINE V advance(V dt, V dx, const float* a2, int64_t ld_a, const Lane& lane, const float* b,
                     const float* c, V* h) {
  const D d;
  V y[2] = {hn::Zero(d), hn::Zero(d)};
  HWY_UNROLL(16)
  for (int n = 0; n < kN; ++n) {
    const V e = exp2_fast(d, hn::Mul(dt, lane.load(a2 + n * ld_a)));
    h[n] = hn::MulAdd(e, h[n], hn::Mul(dx, hn::Set(d, b[n])));
    y[n % 2] = hn::MulAdd(h[n], hn::Set(d, c[n]), y[n % 2]);
  }
  return hn::Add(y[0], y[1]);
}

// A chunk of tokens of one vector of channels: dt and dt x.
struct Steps {
  HWY_ALIGN float dt[kScanChunk * kLanes];
  HWY_ALIGN float dx[kScanChunk * kLanes];
  Steps(const ScanOperands& s, const Lane& lane, int64_t begin, int64_t end) {
    const D d;
    const V bias = lane.load(s.bias);
    for (int64_t t = begin; t < end; ++t) {
      const V step = softplus(d, hn::Add(lane.load(s.raw + t * s.ld_raw), bias));
      hn::Store(step, d, dt + (t - begin) * kLanes);
      hn::Store(hn::Mul(step, lane.load(s.x + t * s.ldx)), d, dx + (t - begin) * kLanes);
    }
  }
};

// Rows of the next chunk lie a whole row of channels apart, where no prefetcher looks for them.
// They are asked for row by row, one vector with every token, for only a few can be under way.
HWY_INLINE void fetch_next(const ScanOperands& s, const Lane& lane, int64_t begin, int64_t t,
                           float* y, int64_t ldy) {
  const int64_t vectors = (s.channels + kLanes - 1) / kLanes;
  const int64_t i = lane.at / kLanes * kScanChunk + t - begin;
  const int64_t row = begin + kScanChunk + i / vectors, at = i % vectors * kLanes;
  if (row >= s.tokens) return;
  hwy::Prefetch(s.raw + row * s.ld_raw + at);
  hwy::Prefetch(s.x + row * s.ldx + at);
  hwy::Prefetch(y + row * ldy + at);
}

// States [first, first + kN) of one vector of channels over tokens [begin, end); y is stored by the
// first group of states and added to by the others.
template <int kN>
void scan_group(const ScanOperands& s, const Lane& lane, int64_t begin, int64_t end,
                const Steps& steps, int64_t first, float* h, int64_t ld_h, float* y, int64_t ldy) {
  const D d;
  V state[kN];
  for (int n = 0; n < kN; ++n) state[n] = lane.load(h + (first + n) * ld_h);
  const float* a2 = s.a2 + first * s.ld_a;
  const V skip = lane.load(s.skip);
  for (int64_t t = begin; t < end; ++t) {
    const V sum = advance<kN>(hn::Load(d, steps.dt + (t - begin) * kLanes),
                              hn::Load(d, steps.dx + (t - begin) * kLanes), a2, s.ld_a, lane,
                              s.b + t * s.ldb + first, s.c + t * s.ldc + first, state);
    float* row = y + t * ldy;
    if (first == 0) fetch_next(s, lane, begin, t, y, ldy);
    const V before = first == 0 ? hn::Mul(skip, lane.load(s.x + t * s.ldx)) : lane.load(row);
    lane.store(hn::Add(sum, before), row);
  }
  for (int n = 0; n < kN; ++n) lane.store(state[n], h + (first + n) * ld_h);
}

// Chunk by chunk through all channels of the block, so that the rows of a chunk are read while they
// are near.
void forward(const ScanOperands& s, float* h, int64_t ld_h, float* y, int64_t ldy, float* kept,
             int64_t ld_kept) {
  for (int64_t n = 0; n < s.states; ++n) {
    for (int64_t at = 0; at < s.channels; at += kLanes) hwy::Prefetch(h + n * ld_h + at);
  }
  for (int64_t begin = 0; begin < s.tokens; begin += kScanChunk) {
    const int64_t end = std::min(begin + kScanChunk, s.tokens);
    float* keep = kept == nullptr ? nullptr : kept + begin / kScanChunk * s.states * ld_kept;
    for (int64_t n = 0; keep != nullptr && n < s.states; ++n)
      std::copy_n(h + n * ld_h, s.channels, keep + n * ld_kept);
    for (int64_t at = 0; at < s.channels; at += kLanes) {
      const Lane lane = lane_at(at, s.channels);
      const Steps steps(s, lane, begin, end);
      int64_t n = 0;
      for (; n + 16 <= s.states; n += 16)
        scan_group<16>(s, lane, begin, end, steps, n, h, ld_h, y, ldy);
      for (; n + 4 <= s.states; n += 4)
        scan_group<4>(s, lane, begin, end, steps, n, h, ld_h, y, ldy);
      for (; n < s.states; ++n) scan_group<1>(s, lane, begin, end, steps, n, h, ld_h, y, ldy);
    }
  }
}

// States that the backward pass takes at a time; more would not fit the registers.
constexpr int kGroup = 4;

// Scratch of one call. Tiles [vectors of the block, kScanChunk, lanes] are of all channels of a
// chunk; the others [kScanChunk, kGroup, lanes] of one group of states: of one vector of channels
// the states before every token and the decays, of the whole block the gradients of B and C, whose
// lanes are added up at the end.
struct Tiles {
  float *dt, *x, *up, *slope, *through_a, *through_b;
  float *before, *decay, *db, *dc;
  explicit Tiles(float* scratch) {
    for (float** tile : {&dt, &x, &up, &slope, &through_a, &through_b}) {
      *tile = scratch;
      scratch += kTile;
    }
    for (float** part : {&before, &decay, &db, &dc}) {
      *part = scratch;
      scratch += kPart;
    }
  }
  static constexpr int64_t kTile = kScanChunk * kScanBlock;
  static constexpr int64_t kPart = kScanChunk * kGroup * kLanes;
  static constexpr int64_t kFloats = 6 * kTile + 4 * kPart;
};

// What all states of a chunk's tokens share.
void fill_tiles(const ScanOperands& s, int64_t begin, int64_t end, const float* dy, int64_t ld_dy,
                const Tiles& k) {
  const D d;
  for (int64_t at = 0; at < s.channels; at += kLanes) {
    const Lane lane = lane_at(at, s.channels);
    const V bias = lane.load(s.bias), one = hn::Set(d, 1.0f);
    for (int64_t t = begin; t < end; ++t) {
      const int64_t to = at * kScanChunk + (t - begin) * kLanes;
      const V z = hn::Add(lane.load(s.raw + t * s.ld_raw), bias), e = exp_neg_abs(d, z);
      hn::Store(hn::Add(hn::Max(z, hn::Zero(d)), log1p_unit(d, e)), d, k.dt + to);
      const V top = hn::IfThenElse(hn::Lt(z, hn::Zero(d)), e, one);
      hn::Store(hn::Div(top, hn::Add(one, e)), d, k.slope + to);
      hn::Store(lane.load(s.x + t * s.ldx), d, k.x + to);
      hn::Store(lane.load(dy + t * ld_dy), d, k.up + to);
    }
  }
}

// The rows that the chunk before needs, as fetch_next: `step` counts vectors and tokens of a chunk.
struct Before {
  const ScanOperands& s;
  const float* dy;
  int64_t ld_dy;
  const float* kept;  // of the chunk before; null = there is none
  int64_t ld_kept;
  int64_t begin;  // of the chunk at hand
  HWY_INLINE void fetch(int64_t step) const {
    if (kept == nullptr) return;
    const int64_t vectors = (s.channels + kLanes - 1) / kLanes;
    const int64_t i = step / vectors, row = begin - kScanChunk + i, at = step % vectors * kLanes;
    hwy::Prefetch(s.raw + row * s.ld_raw + at);
    hwy::Prefetch(s.x + row * s.ldx + at);
    hwy::Prefetch(dy + row * ld_dy + at);
    if (i < s.states) hwy::Prefetch(kept + i * ld_kept + at);
  }
};

// States [first, first + kN) of one vector of channels over `tokens` tokens from `begin` on:
// forward from the kept state, then back. carry: the gradient of the states.
template <int kN>
void backward_group(const ScanOperands& s, const Lane& lane, int64_t begin, int64_t tokens,
                    int64_t first, const float* kept, int64_t ld_kept, float* carry,
                    int64_t ld_carry, const Tiles& k, const ScanGradients& to,
                    const Before& before) {
  const D d;
  const int64_t tile = lane.at * kScanChunk;
  V h[kN], a2[kN], g[kN], da[kN];
  for (int n = 0; n < kN; ++n) {
    h[n] = lane.load(kept + (first + n) * ld_kept);
    a2[n] = lane.load(s.a2 + (first + n) * s.ld_a);
    g[n] = lane.load(carry + (first + n) * ld_carry);
    da[n] = lane.load(to.da + (first + n) * to.ld_a);
  }
  for (int64_t t = 0; t < tokens; ++t) {
    const V dt = hn::Load(d, k.dt + tile + t * kLanes);
    const V dx = hn::Mul(dt, hn::Load(d, k.x + tile + t * kLanes));
    const float* b = s.b + (begin + t) * s.ldb + first;
    if (first == 0) before.fetch(lane.at / kLanes * kScanChunk + t);
    for (int n = 0; n < kN; ++n) {
      const int64_t i = (t * kGroup + n) * kLanes;
      const V e = exp2_fast(d, hn::Mul(dt, a2[n]));
      hn::Store(h[n], d, k.before + i);
      hn::Store(e, d, k.decay + i);
      h[n] = hn::MulAdd(e, h[n], hn::Mul(dx, hn::Set(d, b[n])));
    }
  }
  for (int64_t t = tokens; t-- > 0;) {
    const int64_t row = tile + t * kLanes;
    const V dt = hn::Load(d, k.dt + row), up = hn::Load(d, k.up + row);
    const V dx = hn::Mul(dt, hn::Load(d, k.x + row));
    const float* b = s.b + (begin + t) * s.ldb + first;
    const float* c = s.c + (begin + t) * s.ldc + first;
    V through_a = first == 0 ? hn::Zero(d) : hn::Load(d, k.through_a + row);  // of dt by the decay
    V through_b = first == 0 ? hn::Zero(d) : hn::Load(d, k.through_b + row);  // of dt x
    for (int n = 0; n < kN; ++n) {
      const int64_t i = (t * kGroup + n) * kLanes;
      g[n] = hn::MulAdd(up, hn::Set(d, c[n]), g[n]);
      hn::Store(hn::MulAdd(up, h[n], hn::Load(d, k.dc + i)), d, k.dc + i);
      hn::Store(hn::MulAdd(g[n], dx, hn::Load(d, k.db + i)), d, k.db + i);
      through_b = hn::MulAdd(g[n], hn::Set(d, b[n]), through_b);
      g[n] = hn::Mul(g[n], hn::Load(d, k.decay + i));  // now of the state before
      h[n] = hn::Load(d, k.before + i);
      const V by_decay = hn::Mul(g[n], h[n]);
      through_a = hn::MulAdd(by_decay, a2[n], through_a);
      da[n] = hn::MulAdd(by_decay, dt, da[n]);
    }
    hn::Store(through_a, d, k.through_a + row);
    hn::Store(through_b, d, k.through_b + row);
  }
  for (int n = 0; n < kN; ++n) {
    lane.store(g[n], carry + (first + n) * ld_carry);
    lane.store(da[n], to.da + (first + n) * to.ld_a);
  }
}

// The gradients of the inputs by channel, from what the states have gathered.
void finish_tokens(const ScanOperands& s, int64_t begin, int64_t end, const Tiles& k,
                   const ScanGradients& to) {
  const D d;
  const V ln2 = hn::Set(d, 0.693147180559945f);
  for (int64_t at = 0; at < s.channels; at += kLanes) {
    const Lane lane = lane_at(at, s.channels);
    const V skip = lane.load(s.skip);
    V dskip = lane.load(to.dskip), dbias = lane.load(to.dbias);
    for (int64_t t = end; t-- > begin;) {
      const int64_t row = at * kScanChunk + (t - begin) * kLanes;
      const V x = hn::Load(d, k.x + row), up = hn::Load(d, k.up + row);
      const V through_b = hn::Load(d, k.through_b + row);
      const V ddt = hn::MulAdd(x, through_b, hn::Mul(hn::Load(d, k.through_a + row), ln2));
      const V draw = hn::Mul(ddt, hn::Load(d, k.slope + row));
      lane.store(draw, to.draw + t * to.ld_draw);
      const V dx = hn::MulAdd(hn::Load(d, k.dt + row), through_b, hn::Mul(skip, up));
      lane.store(dx, to.dx + t * to.ld_dx);
      dbias = hn::Add(dbias, draw);
      dskip = hn::MulAdd(up, x, dskip);
    }
    lane.store(dskip, to.dskip);
    lane.store(dbias, to.dbias);
  }
}

// States [first, first + kN) of all channels of a chunk, and the block's part of dB and dC.
template <int kN>
void backward_states(const ScanOperands& s, int64_t begin, int64_t end, int64_t first,
                     const float* kept, int64_t ld_kept, float* carry, int64_t ld_carry,
                     const Tiles& k, const ScanGradients& to, const Before& before) {
  const D d;
  std::memset(k.db, 0, 2 * Tiles::kPart * sizeof(float));  // dc follows
  for (int64_t at = 0; at < s.channels; at += kLanes) {
    backward_group<kN>(s, lane_at(at, s.channels), begin, end - begin, first, kept, ld_kept, carry,
                       ld_carry, k, to, before);
  }
  for (int64_t t = begin; t < end; ++t) {
    for (int n = 0; n < kN; ++n) {
      const int64_t i = ((t - begin) * kGroup + n) * kLanes;
      to.db[t * s.states + first + n] = hn::GetLane(hn::SumOfLanes(d, hn::Load(d, k.db + i)));
      to.dc[t * s.states + first + n] = hn::GetLane(hn::SumOfLanes(d, hn::Load(d, k.dc + i)));
    }
  }
}

void backward(const ScanOperands& s, const float* kept, int64_t ld_kept, const float* dy,
              int64_t ld_dy, float* carry, int64_t ld_carry, const ScanGradients& to,
              float* scratch) {
  const Tiles k(scratch);
  const int64_t chunks = (s.tokens + kScanChunk - 1) / kScanChunk;
  for (int64_t chunk = chunks; chunk-- > 0;) {
    const int64_t begin = chunk * kScanChunk, end = std::min(begin + kScanChunk, s.tokens);
    const float* from = kept + chunk * s.states * ld_kept;
    const Before before{s,       dy,   ld_dy, chunk == 0 ? nullptr : from - s.states * ld_kept,
                        ld_kept, begin};
    fill_tiles(s, begin, end, dy, ld_dy, k);
    int64_t n = 0;
    for (; n + kGroup <= s.states; n += kGroup)
      backward_states<kGroup>(s, begin, end, n, from, ld_kept, carry, ld_carry, k, to, before);
    for (; n < s.states; ++n)
      backward_states<1>(s, begin, end, n, from, ld_kept, carry, ld_carry, k, to, before);
    finish_tokens(s, begin, end, k, to);
  }
}

void rates(const float* a_log, int64_t channels, int64_t states, float* a2, int64_t ld_a) {
  const D d;
  const V scale = hn::Set(d, -1.44269504f);
  HWY_ALIGN float rows[kLanes * kMaxScanState];
  for (int64_t at = 0; at < channels; at += kLanes) {
    const int64_t width = std::min(kLanes, channels - at), count = width * states;
    for (int64_t i = 0; i < count; i += kLanes) {
      const Lane lane = lane_at(i, count);
      hn::Store(hn::Mul(scale, hn::Exp(d, lane.load(a_log + at * states))), d, rows + i);
    }
    for (int64_t n = 0; n < states; ++n) {
      for (int64_t i = 0; i < width; ++i) a2[n * ld_a + at + i] = rows[i * states + n];
    }
  }
}

void arithmetic(int64_t tokens, int64_t channels, int64_t states, float* sink) {
  const D d;
  constexpr int kN = 16;
  V h[kN];
  for (int n = 0; n < kN; ++n) h[n] = hn::Set(d, 0.01f * static_cast<float>(n));
  HWY_ALIGN float a2[kN * kLanes];
  float b[kN], c[kN];
  for (int n = 0; n < kN; ++n) {
    b[n] = 0.3f;
    c[n] = 0.2f;
    hn::Store(hn::Set(d, -0.1f * static_cast<float>(n)), d, a2 + n * kLanes);
  }
  const Lane lane = lane_at(0, kLanes);
  const V dt = hn::Set(d, 0.05f);
  V y = hn::Zero(d);
  const int64_t rounds = tokens * ((channels + kLanes - 1) / kLanes) * ((states + kN - 1) / kN);
  for (int64_t i = 0; i < rounds; ++i) {
    y = hn::Add(y, advance<kN>(dt, hn::Mul(dt, dt), a2, kLanes, lane, b, c, h));
  }
  *sink = hn::GetLane(hn::SumOfLanes(d, y));
}

int64_t scratch_floats() { return Tiles::kFloats; }

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(forward);
HWY_EXPORT(backward);
HWY_EXPORT(arithmetic);
HWY_EXPORT(scratch_floats);
HWY_EXPORT(rates);

void selective_scan_f32(const ScanOperands& s, float* h, int64_t ld_h, float* y, int64_t ldy,
                        float* kept, int64_t ld_kept) {
  HWY_DYNAMIC_DISPATCH(forward)(s, h, ld_h, y, ldy, kept, ld_kept);
}

int64_t selective_scan_scratch() { return HWY_DYNAMIC_DISPATCH(scratch_floats)(); }

void selective_scan_rates(const float* a_log, int64_t channels, int64_t states, float* a2,
                          int64_t ld_a) {
  HWY_DYNAMIC_DISPATCH(rates)(a_log, channels, states, a2, ld_a);
}

void selective_scan_backward_f32(const ScanOperands& s, const float* kept, int64_t ld_kept,
                                 const float* dy, int64_t ld_dy, float* carry, int64_t ld_carry,
                                 const ScanGradients& to, float* scratch) {
  HWY_DYNAMIC_DISPATCH(backward)(s, kept, ld_kept, dy, ld_dy, carry, ld_carry, to, scratch);
}

void selective_scan_arithmetic(int64_t tokens, int64_t channels, int64_t states, float* sink) {
  HWY_DYNAMIC_DISPATCH(arithmetic)(tokens, channels, states, sink);
}

}  // namespace braid
#endif
