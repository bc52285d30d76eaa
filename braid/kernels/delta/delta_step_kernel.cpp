#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/delta/delta_step_kernel.cpp"
#include <hwy/foreach_target.h>
// After foreach_target, which sets the target for what follows.
#include <hwy/cache_control.h>
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <algorithm>

#include "braid/kernels/delta/delta_step.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));

// Per key channel of one micro-step.
struct Factors {
  float* alpha;  // decay
  float* erase;  // erase key, decayed unless it reads before the decay
  float* read;   // scale * q, zero unless the output is read
  const float* k;
  const float* b;  // second key, of u, when it is a pair
};

HWY_INLINE hn::Mask<D> first(int64_t count) { return hn::FirstN(D(), static_cast<size_t>(count)); }

template <bool kPartial>
HWY_INLINE V load(const float* p, int64_t count) {
  return kPartial ? hn::MaskedLoad(first(count), D(), p) : hn::LoadU(D(), p);
}

template <bool kPartial>
HWY_INLINE void store(V v, float* p, int64_t count) {
  if (kPartial) {
    hn::BlendedStore(v, first(count), D(), p);
  } else {
    hn::StoreU(v, D(), p);
  }
}

// What a step writes: u by k without a pair, u by b and v by k with one.
enum class Write { kValue, kDelta, kPair };

// kVectors columns of vectors of the state; kPartial: one vector of `count` columns. u [.] holds w
// (.) v. qk, qb: scale q times k and b.
template <int kVectors, bool kPartial, Write kWrite>
void step_columns(int64_t key_dim, int64_t value_dim, const Factors& f, float qk, float qb,
                  int64_t count, float* HWY_RESTRICT state, const float* HWY_RESTRICT v,
                  const float* HWY_RESTRICT w, float gate, float* HWY_RESTRICT o) {
  constexpr bool kPair = kWrite == Write::kPair, kDelta = kWrite != Write::kValue;
  V u[kVectors], out[kVectors], read[kVectors];
  for (int c = 0; c < kVectors; ++c) {
    const V gates = w != nullptr ? load<kPartial>(w + c * kLanes, count) : hn::Set(D(), gate);
    u[c] = hn::Mul(gates, load<kPartial>(v + c * kLanes, count));
    out[c] = hn::Zero(D());
  }
  if (kDelta) {
    V erased[kVectors];
    for (int c = 0; c < kVectors; ++c) erased[c] = hn::Zero(D());
    for (int64_t d = 0; d < key_dim; ++d) {
      const float* row = state + d * value_dim;
      const V e = hn::Set(D(), f.erase[d]), q = hn::Set(D(), f.read[d]);
      HWY_UNROLL(8)
      for (int c = 0; c < kVectors; ++c) {
        const V s = load<kPartial>(row + c * kLanes, count);
        erased[c] = hn::MulAdd(e, s, erased[c]);
        out[c] = hn::MulAdd(q, s, out[c]);
      }
    }
    for (int c = 0; c < kVectors; ++c) {
      if (kPair) {
        out[c] = hn::MulAdd(hn::Set(D(), qb), erased[c], out[c]);
        read[c] = erased[c];
      } else {
        u[c] = hn::Sub(u[c], erased[c]);
      }
      out[c] = hn::MulAdd(hn::Set(D(), qk), u[c], out[c]);
    }
  }
  for (int64_t d = 0; d < key_dim; ++d) {
    float* row = state + d * value_dim;
    const V a = hn::Set(D(), f.alpha[d]), k = hn::Set(D(), f.k[d]), q = hn::Set(D(), f.read[d]);
    const V b = hn::Set(D(), kPair ? f.b[d] : 0.0f);
    HWY_UNROLL(8)
    for (int c = 0; c < kVectors; ++c) {
      V s = hn::MulAdd(k, u[c], hn::Mul(a, load<kPartial>(row + c * kLanes, count)));
      if (kPair) s = hn::MulAdd(b, read[c], s);
      store<kPartial>(s, row + c * kLanes, count);
      if (!kDelta) out[c] = hn::MulAdd(q, s, out[c]);
    }
  }
  if (o == nullptr) return;
  for (int c = 0; c < kVectors; ++c) store<kPartial>(out[c], o + c * kLanes, count);
}

template <Write kWrite>
void step_all(int64_t key_dim, int64_t value_dim, const Factors& f, float qk, float qb,
              float* state, const float* v, const float* w, float gate, float* o) {
  constexpr int kWide = 8;
  int64_t e = 0;
  const auto at = [&](auto* p) HWY_ATTR { return p == nullptr ? p : p + e; };
  for (; e + kWide * kLanes <= value_dim; e += kWide * kLanes) {
    step_columns<kWide, false, kWrite>(key_dim, value_dim, f, qk, qb, kLanes, state + e, v + e,
                                       at(w), gate, at(o));
  }
  for (; e + kLanes <= value_dim; e += kLanes) {
    step_columns<1, false, kWrite>(key_dim, value_dim, f, qk, qb, kLanes, state + e, v + e, at(w),
                                   gate, at(o));
  }
  if (e < value_dim) {
    step_columns<1, true, kWrite>(key_dim, value_dim, f, qk, qb, value_dim - e, state + e, v + e,
                                  at(w), gate, at(o));
  }
}

// Strongest decay as in delta_exp; a NaN stays one.
HWY_INLINE V decay(V g) {
  return hn::IfThenElse(hn::IsNaN(g), g, hn::Exp(D(), hn::Max(g, hn::Set(D(), -1e4f))));
}

HWY_INLINE void decays(const float* g, bool vector, int64_t key_dim, float* alpha) {
  if (!vector) {
    const V a = decay(hn::Set(D(), g[0]));
    for (int64_t d = 0; d < key_dim; d += kLanes) hn::StoreU(a, D(), alpha + d);
    return;
  }
  for (int64_t d = 0; d < key_dim; d += kLanes) {
    const V x = hn::MaskedLoad(first(std::min(key_dim - d, kLanes)), D(), g + d);
    hn::StoreU(decay(x), D(), alpha + d);
  }
}

// Erase and read factors of micro-step s from f.alpha, and q . k and q . b, with q zero unless
// `closes`.
struct Products {
  float qk, qb;
};

HWY_INLINE Products factors(const DeltaHead<float>& h, int64_t s, bool closes, const Factors& f) {
  const int64_t kd = h.key_dim, token = s / h.micro_steps;
  const V beta = hn::Set(D(), h.beta ? h.beta[s][0] : 1.0f);
  V qk = hn::Zero(D()), qb = hn::Zero(D());
  for (int64_t d = 0; d < kd; d += kLanes) {
    const auto inside = first(std::min(kd - d, kLanes));
    const V k = hn::MaskedLoad(inside, D(), f.k + d), alpha = hn::LoadU(D(), f.alpha + d);
    V q = hn::Zero(D());
    if (closes) q = hn::Mul(hn::Set(D(), h.scale), hn::MaskedLoad(inside, D(), h.q[token] + d));
    qk = hn::MulAdd(q, k, qk);
    switch (h.erase) {
      case DeltaErase::kNone:
        hn::StoreU(q, D(), f.read + d);
        continue;
      case DeltaErase::kBeta:
        hn::StoreU(hn::Mul(alpha, hn::Mul(beta, k)), D(), f.erase + d);
        break;
      case DeltaErase::kVector:
        hn::StoreU(hn::Mul(alpha, hn::Mul(hn::MaskedLoad(inside, D(), h.b[s] + d), k)), D(),
                   f.erase + d);
        break;
      case DeltaErase::kKey:
        hn::StoreU(hn::Mul(beta, hn::MaskedLoad(inside, D(), h.p[s] + d)), D(), f.erase + d);
        break;
      case DeltaErase::kPair:
        hn::StoreU(hn::MaskedLoad(inside, D(), h.p[s] + d), D(), f.erase + d);
        qb = hn::MulAdd(q, hn::MaskedLoad(inside, D(), f.b + d), qb);
        break;
    }
    hn::StoreU(hn::Mul(alpha, q), D(), f.read + d);
  }
  return {hn::GetLane(hn::SumOfLanes(D(), qk)), hn::GetLane(hn::SumOfLanes(D(), qb))};
}

// The start of a state comes from memory while the factors are made; the machine guesses the rest.
HWY_INLINE void fetch_start(const float* state, int64_t count) {
  constexpr int64_t kLine = 16, kLines = 64;
  for (int64_t i = 0; i < std::min(count, kLines * kLine); i += kLine) hwy::Prefetch(state + i);
}

void step(const DeltaHead<float>& h, float* state, DeltaRows<float> o, float* scratch) {
  const int64_t kd = h.key_dim, n = h.micro_steps;
  fetch_start(state, kd * h.value_dim);
  Factors f;
  f.alpha = scratch;
  f.erase = f.alpha + kd + 16;
  f.read = f.erase + kd + 16;
  for (int64_t s = 0; s < h.tokens * n; ++s) {
    const int64_t token = s / n;
    const bool opens = s % n == 0, closes = s % n == n - 1;
    f.k = h.k[s];
    if (opens && h.decay != DeltaDecay::kNone) {
      decays(h.g[token], h.decay == DeltaDecay::kVector, kd, f.alpha);
    } else {
      for (int64_t d = 0; d < kd; d += kLanes) hn::StoreU(hn::Set(D(), 1.0f), D(), f.alpha + d);
    }
    f.b = h.erase == DeltaErase::kPair ? h.b[s] : nullptr;
    const Products by = factors(h, s, closes, f);
    const float* w = h.w ? h.w[s] : nullptr;
    const float gate = h.beta ? h.beta[s][0] : 1.0f;
    float* out = closes ? o[token] : nullptr;
    const auto run = h.erase == DeltaErase::kNone   ? step_all<Write::kValue>
                     : h.erase == DeltaErase::kPair ? step_all<Write::kPair>
                                                    : step_all<Write::kDelta>;
    run(kd, h.value_dim, f, by.qk, by.qb, state, h.v[s], w, gate, out);
  }
}

}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(step);

void delta_step(const DeltaHead<float>& h, float* state, DeltaRows<float> o, float* scratch) {
  HWY_DYNAMIC_DISPATCH(step)(h, state, o, scratch);
}

}  // namespace braid
#endif
