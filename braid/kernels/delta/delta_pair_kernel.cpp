#include "braid/kernels/delta/delta_pair_kernel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/delta/delta_pair_kernel.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "braid/kernels/delta/delta_tile.h"
#include "braid/kernels/simd/exp2_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // other kernel files have functions of the same names

namespace hn = hwy::HWY_NAMESPACE;
constexpr int64_t kBlock = kDeltaBlock;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));

HWY_INLINE V load(const float* p) { return hn::LoadU(D(), p); }
HWY_INLINE void store(V v, float* p) { hn::StoreU(v, D(), p); }
HWY_INLINE V all(float x) { return hn::Set(D(), x); }
HWY_INLINE hn::Mask<D> first_lanes(int64_t count) {
  return hn::FirstN(D(), static_cast<size_t>(std::clamp<int64_t>(count, 0, kLanes)));
}
HWY_INLINE V load_some(const float* p, int64_t count) {
  return hn::MaskedLoad(first_lanes(count), D(), p);
}

HWY_INLINE int64_t row_of(int64_t i) { return i / kBlock * 2 * kBlock + i % kBlock; }

void take_rows(const DeltaHead<float>& h, int64_t first, int64_t rows, int64_t kp, float* alpha,
               float* decay, float* tile) {
  const int64_t padded = (rows + kBlock - 1) / kBlock * kBlock;
  const V log2e = all(1.44269504088896341f), least = all(-1e4f), scale = all(h.scale);
  for (int64_t i = 0; i < padded; ++i) {
    float *a = alpha + i * kp, *now = decay + i * kp;
    const float* before = i == 0 ? nullptr : now - kp;
    float *of_p = tile + row_of(i) * kp, *of_q = of_p + kBlock * kp;
    const bool inside = i < rows;
    const float* g = inside ? h.g[first + i] : nullptr;
    const float* p = inside ? h.p[first + i] : nullptr;
    const float* q = inside ? h.q[first + i] : nullptr;
    for (int64_t d = 0; d < kp; d += kLanes) {
      const V past = before == nullptr ? all(1.0f) : load(before + d);
      if (!inside) {
        store(all(1.0f), a + d);
        store(past, now + d);
        store(hn::Zero(D()), of_p + d);
        store(hn::Zero(D()), of_q + d);
        continue;
      }
      const int64_t some = h.key_dim - d;
      const V x = hn::Max(least, load_some(g + d, some));
      const V factor = exp2_fast(D(), hn::Mul(x, log2e)), product = hn::Mul(past, factor);
      store(factor, a + d);
      store(product, now + d);
      store(hn::Mul(load_some(p + d, some), past), of_p + d);
      store(hn::Mul(hn::Mul(load_some(q + d, some), scale), product), of_q + d);
    }
  }
}

void take_keys(const DeltaHead<float>& h, int64_t first, int64_t rows, int64_t kp,
               const float* alpha, float* after, float* tile) {
  const int64_t padded = (rows + kBlock - 1) / kBlock * kBlock;
  for (int64_t i = padded - 1; i >= 0; --i) {
    float *of_b = tile + row_of(i) * kp, *of_k = of_b + kBlock * kp, *s = after + i * kp;
    const bool inside = i < rows;
    const float* b = inside ? h.b[first + i] : nullptr;
    const float* k = inside ? h.k[first + i] : nullptr;
    for (int64_t d = 0; d < kp; d += kLanes) {
      const int64_t some = h.key_dim - d;
      const V later =
          i == padded - 1 ? all(1.0f) : hn::Mul(load(s + kp + d), load(alpha + (i + 1) * kp + d));
      store(later, s + d);
      store(inside ? hn::Mul(load_some(b + d, some), later) : hn::Zero(D()), of_b + d);
      store(inside ? hn::Mul(load_some(k + d, some), later) : hn::Zero(D()), of_k + d);
    }
  }
}

int64_t mild_rows(int64_t rows, int64_t key_dim, int64_t kp, const float* decay, float least) {
  for (int64_t i = rows; i > 0; --i) {
    const float* row = decay + (i - 1) * kp;
    V smallest = all(1.0f);
    for (int64_t d = 0; d < key_dim; d += kLanes) {
      const auto inside = first_lanes(key_dim - d);
      smallest = hn::Min(smallest, hn::IfThenElse(inside, load(row + d), all(1.0f)));
    }
    if (hn::GetLane(hn::MinOfLanes(D(), smallest)) >= least) return i;
  }
  return 0;
}

// Keeps the first `count` of 16 numbers.
HWY_INLINE void keep(float* x, int64_t count, bool negate) {
  for (int64_t j = 0; j < kBlock; j += kLanes) {
    const V v = hn::IfThenElseZero(first_lanes(count - j), load(x + j));
    store(negate ? hn::Neg(v) : v, x + j);
  }
}

void mask_scores(int64_t n, float* scores, int64_t ld) {
  for (int64_t b = 0; b < n; ++b) {
    float* block = scores + b * 2 * kBlock * (ld + 1);
    for (int64_t i = 0; i < kBlock; ++i) {
      float *of_p = block + i * ld, *of_q = of_p + kBlock * ld;
      keep(of_p, i, true);
      keep(of_p + kBlock, i, false);
      keep(of_q, i + 1, false);
      keep(of_q + kBlock, i + 1, false);
    }
  }
}

void mask_gradients(int64_t n, float* d_scores, int64_t ld, float* diagonal) {
  for (int64_t b = 0; b < n; ++b) {
    float* block = d_scores + b * 2 * kBlock * (ld + 1);
    for (int64_t i = 0; i < kBlock; ++i) {
      float *of_p = block + i * ld, *of_q = of_p + kBlock * ld;
      diagonal[b * kBlock + i] = of_q[i];
      diagonal[(n + b) * kBlock + i] = of_q[kBlock + i];
      for (float* row : {of_p, of_p + kBlock, of_q, of_q + kBlock}) keep(row, i, false);
    }
  }
}

void decay_gradient(int64_t n, int64_t kp, const float* rows, const float* d_rows,
                    const float* raised, const float* d_raised, const float* keys,
                    const float* d_keys, const float* state_dot, float* dg) {
  const int64_t partner = kBlock * kp;
  for (int64_t d = 0; d < kp; d += kLanes) {
    V kept = load(state_dot + d);
    for (int64_t i = 0; i < n * kBlock; ++i) {
      const int64_t at = row_of(i) * kp + d;
      store(kept, dg + i * kp + d);
      kept = hn::MulAdd(load(keys + at), load(d_keys + at), kept);
      kept = hn::MulAdd(load(keys + at + partner), load(d_keys + at + partner), kept);
    }
    V sum = hn::Zero(D());
    for (int64_t i = n * kBlock - 1; i >= 0; --i) {
      const int64_t at = row_of(i) * kp + d;
      sum = hn::MulAdd(load(rows + at + partner), load(d_rows + at + partner), sum);
      sum = hn::NegMulAdd(load(raised + at), load(d_raised + at), sum);
      sum = hn::NegMulAdd(load(raised + at + partner), load(d_raised + at + partner), sum);
      store(hn::Add(load(dg + i * kp + d), sum), dg + i * kp + d);
      // p reads before the token's own decay.
      sum = hn::MulAdd(load(rows + at), load(d_rows + at), sum);
    }
  }
}

HWY_INLINE void put(V v, float* to, int64_t count, DeltaPut how) {
  if (count < kLanes) {
    if (how == DeltaPut::kAdd) v = hn::Add(load_some(to, count), v);
    hn::BlendedStore(v, first_lanes(count), D(), to);
    return;
  }
  if (how == DeltaPut::kAdd) v = hn::Add(load(to), v);
  if (how == DeltaPut::kStream && reinterpret_cast<uintptr_t>(to) % sizeof(V) == 0) {
    hn::Stream(v, D(), to);
  } else {
    store(v, to);
  }
}

void put_keys(int64_t count, const PairKeyRow& r, DeltaPut how) {
  const V scale = all(r.scale), by_b = all(r.diagonal_b), by_k = all(r.diagonal_k);
  for (int64_t d = 0; d < count; d += kLanes) {
    const int64_t some = count - d;
    const V q = hn::Mul(scale, load_some(r.q + d, some));
    const V after = load(r.after + d), raise = load(r.inverse + d);
    if (r.to_q != nullptr) {
      V dq = hn::Mul(load(r.d_q + d), load(r.decay + d));
      dq = hn::MulAdd(by_b, load_some(r.b + d, some), dq);
      dq = hn::MulAdd(by_k, load_some(r.k + d, some), dq);
      put(hn::Mul(scale, dq), r.to_q + d, some, how);
    }
    if (r.to_p != nullptr) {
      const V dp = load(r.d_p + d);
      put(r.before == nullptr ? dp : hn::Mul(dp, load(r.before + d)), r.to_p + d, some, how);
    }
    if (r.to_b != nullptr) {
      const V db = hn::MulAdd(load(r.d_b + d), raise, load(r.d_b_state + d));
      put(hn::MulAdd(db, after, hn::Mul(by_b, q)), r.to_b + d, some, how);
    }
    if (r.to_k != nullptr) {
      const V dk = hn::MulAdd(load(r.d_k + d), raise, load(r.d_k_state + d));
      put(hn::MulAdd(dk, after, hn::Mul(by_k, q)), r.to_k + d, some, how);
    }
  }
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(take_rows);
HWY_EXPORT(take_keys);
HWY_EXPORT(mild_rows);
HWY_EXPORT(mask_scores);
HWY_EXPORT(mask_gradients);
HWY_EXPORT(decay_gradient);
HWY_EXPORT(put_keys);

void pair_take_rows(const DeltaHead<float>& h, int64_t first, int64_t rows, int64_t kp,
                    float* alpha, float* decay, float* tile) {
  HWY_DYNAMIC_DISPATCH(take_rows)(h, first, rows, kp, alpha, decay, tile);
}

void pair_take_keys(const DeltaHead<float>& h, int64_t first, int64_t rows, int64_t kp,
                    const float* alpha, float* after, float* tile) {
  HWY_DYNAMIC_DISPATCH(take_keys)(h, first, rows, kp, alpha, after, tile);
}

int64_t pair_mild_rows(int64_t rows, int64_t key_dim, int64_t kp, const float* decay, float least) {
  return HWY_DYNAMIC_DISPATCH(mild_rows)(rows, key_dim, kp, decay, least);
}

void pair_mask_scores(int64_t n, float* scores, int64_t ld) {
  HWY_DYNAMIC_DISPATCH(mask_scores)(n, scores, ld);
}

void pair_mask_gradients(int64_t n, float* d_scores, int64_t ld, float* diagonal) {
  HWY_DYNAMIC_DISPATCH(mask_gradients)(n, d_scores, ld, diagonal);
}

void pair_decay_gradient(int64_t n, int64_t kp, const float* rows, const float* d_rows,
                         const float* raised, const float* d_raised, const float* keys,
                         const float* d_keys, const float* state_dot, float* dg) {
  HWY_DYNAMIC_DISPATCH(decay_gradient)
  (n, kp, rows, d_rows, raised, d_raised, keys, d_keys, state_dot, dg);
}

void pair_put_keys(int64_t count, const PairKeyRow& row, DeltaPut put) {
  HWY_DYNAMIC_DISPATCH(put_keys)(count, row, put);
}

}  // namespace braid
#endif
