#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/scan/selective_scan_kernel.cpp"
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
  V y0 = hn::Zero(d), y1 = hn::Zero(d);
  for (int n = 0; n < kN; n += 2) {
    const V e0 = exp2_fast(d, hn::Mul(dt, lane.load(a2 + n * ld_a)));
    const V e1 = exp2_fast(d, hn::Mul(dt, lane.load(a2 + (n + 1) * ld_a)));
    h[n] = hn::MulAdd(e0, h[n], hn::Mul(dx, hn::Set(d, b[n])));
    h[n + 1] = hn::MulAdd(e1, h[n + 1], hn::Mul(dx, hn::Set(d, b[n + 1])));
    y0 = hn::MulAdd(h[n], hn::Set(d, c[n]), y0);
    y1 = hn::MulAdd(h[n + 1], hn::Set(d, c[n + 1]), y1);
  }
  return hn::Add(y0, y1);
}

// States [first, first + kN) of one vector of channels over all tokens; y is stored by the first
// group of states and added to by the others.
template <int kN>
void scan_lane(const ScanOperands& s, const Lane& lane, int64_t first, float* h, int64_t ld_h,
               float* y, int64_t ldy, float* kept, int64_t ld_kept) {
  const D d;
  V state[kN];
  for (int n = 0; n < kN; ++n) state[n] = lane.load(h + (first + n) * ld_h);
  const float* a2 = s.a2 + first * s.ld_a;
  const V bias = lane.load(s.bias), skip = lane.load(s.skip);
  for (int64_t t = 0; t < s.tokens; ++t) {
    if (kept != nullptr && t % kScanChunk == 0) {
      float* to = kept + (t / kScanChunk * s.states + first) * ld_kept;
      for (int n = 0; n < kN; ++n) lane.store(state[n], to + n * ld_kept);
    }
    const V dt = softplus(d, hn::Add(lane.load(s.raw + t * s.ld_raw), bias));
    const V x = lane.load(s.x + t * s.ldx);
    const V sum = advance<kN>(dt, hn::Mul(dt, x), a2, s.ld_a, lane, s.b + t * s.ldb + first,
                              s.c + t * s.ldc + first, state);
    float* row = y + t * ldy;
    lane.store(hn::Add(sum, first == 0 ? hn::Mul(skip, x) : lane.load(row)), row);
  }
  for (int n = 0; n < kN; ++n) lane.store(state[n], h + (first + n) * ld_h);
}

// An odd last state.
void scan_last(const ScanOperands& s, const Lane& lane, int64_t n, float* h, int64_t ld_h, float* y,
               int64_t ldy, float* kept, int64_t ld_kept) {
  const D d;
  V state = lane.load(h + n * ld_h);
  const V a2 = lane.load(s.a2 + n * s.ld_a), bias = lane.load(s.bias), skip = lane.load(s.skip);
  for (int64_t t = 0; t < s.tokens; ++t) {
    if (kept != nullptr && t % kScanChunk == 0)
      lane.store(state, kept + (t / kScanChunk * s.states + n) * ld_kept);
    const V dt = softplus(d, hn::Add(lane.load(s.raw + t * s.ld_raw), bias));
    const V x = lane.load(s.x + t * s.ldx);
    state = hn::MulAdd(exp2_fast(d, hn::Mul(dt, a2)), state,
                       hn::Mul(hn::Mul(dt, x), hn::Set(d, s.b[t * s.ldb + n])));
    float* row = y + t * ldy;
    const V before = n == 0 ? hn::Mul(skip, x) : lane.load(row);
    lane.store(hn::MulAdd(state, hn::Set(d, s.c[t * s.ldc + n]), before), row);
  }
  lane.store(state, h + n * ld_h);
}

void forward(const ScanOperands& s, float* h, int64_t ld_h, float* y, int64_t ldy, float* kept,
             int64_t ld_kept) {
  for (int64_t at = 0; at < s.channels; at += kLanes) {
    const Lane lane = lane_at(at, s.channels);
    int64_t n = 0;
    for (; n + 16 <= s.states; n += 16) scan_lane<16>(s, lane, n, h, ld_h, y, ldy, kept, ld_kept);
    for (; n + 2 <= s.states; n += 2) scan_lane<2>(s, lane, n, h, ld_h, y, ldy, kept, ld_kept);
    if (n < s.states) scan_last(s, lane, n, h, ld_h, y, ldy, kept, ld_kept);
  }
}

// Scratch of one call: of one vector of channels the states and decays of a chunk, and per chunk
// the gradients of B and C as vectors, summed over the block's channels before lanes are added up.
struct Chunk {
  float* h;      // [kScanChunk + 1, N, lanes]
  float* decay;  // [kScanChunk, N, lanes]
  float* db;     // [kScanChunk, N, lanes]
  float* dc;     // [kScanChunk, N, lanes]
  explicit Chunk(float* scratch, int64_t states) {
    const int64_t row = states * kLanes;
    h = scratch;
    decay = h + (kScanChunk + 1) * row;
    db = decay + kScanChunk * row;
    dc = db + kScanChunk * row;
  }
  static int64_t floats(int64_t states) { return (4 * kScanChunk + 1) * states * kLanes; }
};

// States and decays of tokens [begin, end) from the kept state.
void recompute(const ScanOperands& s, const Lane& lane, int64_t begin, int64_t end,
               const float* kept, int64_t ld_kept, const Chunk& k) {
  const D d;
  const int64_t row = s.states * kLanes;
  const V bias = lane.load(s.bias);
  for (int64_t n = 0; n < s.states; ++n)
    hn::Store(lane.load(kept + n * ld_kept), d, k.h + n * kLanes);
  for (int64_t t = begin; t < end; ++t) {
    const V dt = softplus(d, hn::Add(lane.load(s.raw + t * s.ld_raw), bias));
    const V dx = hn::Mul(dt, lane.load(s.x + t * s.ldx));
    const float* b = s.b + t * s.ldb;
    const float* before = k.h + (t - begin) * row;
    float* decay = k.decay + (t - begin) * row;
    for (int64_t n = 0; n < s.states; ++n) {
      const V e = exp2_fast(d, hn::Mul(dt, lane.load(s.a2 + n * s.ld_a)));
      hn::Store(e, d, decay + n * kLanes);
      hn::Store(hn::MulAdd(e, hn::Load(d, before + n * kLanes), hn::Mul(dx, hn::Set(d, b[n]))), d,
                k.h + (t - begin + 1) * row + n * kLanes);
    }
  }
}

// One vector of channels of tokens [begin, end), backwards. carry: the state's gradient.
void backward_lane(const ScanOperands& s, const Lane& lane, int64_t begin, int64_t end,
                   const float* dy, int64_t ld_dy, float* carry, int64_t ld_carry, const Chunk& k,
                   const ScanGradients& to) {
  const D d;
  const int64_t row = s.states * kLanes;
  const V bias = lane.load(s.bias), skip = lane.load(s.skip), ln2 = hn::Set(d, 0.693147180559945f);
  V dskip = lane.load(to.dskip), dbias = lane.load(to.dbias);
  for (int64_t t = end; t-- > begin;) {
    const V z = hn::Add(lane.load(s.raw + t * s.ld_raw), bias), dt = softplus(d, z);
    const V x = lane.load(s.x + t * s.ldx), xdt = hn::Mul(x, dt);
    const V up = lane.load(dy + t * ld_dy);
    const float *b = s.b + t * s.ldb, *c = s.c + t * s.ldc;
    const float *before = k.h + (t - begin) * row, *after = before + row;
    const float* decay = k.decay + (t - begin) * row;
    float *db = k.db + (t - begin) * row, *dc = k.dc + (t - begin) * row;
    V through_a = hn::Zero(d), through_b = hn::Zero(d);  // of dt by the decay, of dt x
    for (int64_t n = 0; n < s.states; ++n) {
      const int64_t i = n * kLanes;
      const V a2 = lane.load(s.a2 + n * s.ld_a), e = hn::Load(d, decay + i);
      V g = hn::MulAdd(up, hn::Set(d, c[n]), lane.load(carry + n * ld_carry));
      hn::Store(hn::MulAdd(up, hn::Load(d, after + i), hn::Load(d, dc + i)), d, dc + i);
      hn::Store(hn::MulAdd(g, xdt, hn::Load(d, db + i)), d, db + i);
      through_b = hn::MulAdd(g, hn::Set(d, b[n]), through_b);
      g = hn::Mul(g, e);  // now the gradient of the state before
      const V by_decay = hn::Mul(g, hn::Load(d, before + i));
      through_a = hn::MulAdd(by_decay, a2, through_a);
      float* da = to.da + n * to.ld_a;
      lane.store(hn::MulAdd(by_decay, dt, lane.load(da)), da);
      lane.store(g, carry + n * ld_carry);
    }
    const V ddt = hn::MulAdd(x, through_b, hn::Mul(through_a, ln2));
    const V draw = hn::Mul(ddt, sigmoid(d, z));
    lane.store(draw, to.draw + t * to.ld_draw);
    lane.store(hn::MulAdd(dt, through_b, hn::Mul(skip, up)), to.dx + t * to.ld_dx);
    dbias = hn::Add(dbias, draw);
    dskip = hn::MulAdd(up, x, dskip);
  }
  lane.store(dskip, to.dskip);
  lane.store(dbias, to.dbias);
}

void backward(const ScanOperands& s, const float* kept, int64_t ld_kept, const float* dy,
              int64_t ld_dy, float* carry, int64_t ld_carry, const ScanGradients& to,
              float* scratch) {
  const D d;
  const Chunk k(scratch, s.states);
  const int64_t chunks = (s.tokens + kScanChunk - 1) / kScanChunk;
  for (int64_t chunk = chunks; chunk-- > 0;) {
    const int64_t begin = chunk * kScanChunk, end = std::min(begin + kScanChunk, s.tokens);
    const size_t sums = static_cast<size_t>(2 * kScanChunk * s.states * kLanes);
    std::memset(k.db, 0, sums * sizeof(float));  // dc follows
    for (int64_t at = 0; at < s.channels; at += kLanes) {
      const Lane lane = lane_at(at, s.channels);
      recompute(s, lane, begin, end, kept + chunk * s.states * ld_kept, ld_kept, k);
      backward_lane(s, lane, begin, end, dy, ld_dy, carry, ld_carry, k, to);
    }
    for (int64_t i = 0; i < (end - begin) * s.states; ++i) {
      to.db[begin * s.states + i] = hn::GetLane(hn::SumOfLanes(d, hn::Load(d, k.db + i * kLanes)));
      to.dc[begin * s.states + i] = hn::GetLane(hn::SumOfLanes(d, hn::Load(d, k.dc + i * kLanes)));
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

int64_t scratch_floats(int64_t states) { return Chunk::floats(states); }

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(forward);
HWY_EXPORT(backward);
HWY_EXPORT(arithmetic);
HWY_EXPORT(scratch_floats);

void selective_scan_f32(const ScanOperands& s, float* h, int64_t ld_h, float* y, int64_t ldy,
                        float* kept, int64_t ld_kept) {
  HWY_DYNAMIC_DISPATCH(forward)(s, h, ld_h, y, ldy, kept, ld_kept);
}

int64_t selective_scan_scratch(int64_t states) {
  return HWY_DYNAMIC_DISPATCH(scratch_floats)(states);
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
