#include "braid/kernels/delta/dplr_kernel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/delta/dplr_kernel.cpp"
#include <hwy/foreach_target.h>
// After foreach_target, which sets the target for what follows.
#include <hwy/highway.h>

#include "braid/kernels/delta/delta_inl.h"
#include "braid/kernels/simd/exp2_inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {

// What a head's micro-step reads with, before decays: p, and q times scale, each null if zero.
template <DeltaErase kErase>
struct Reader {
  const float *x = nullptr, *b = nullptr, *q = nullptr;
  V factor;

  Reader(const DeltaHead<float>& h, int64_t step, bool closes) {
    if (closes) q = h.q[h.micro_steps == 1 ? step : step / h.micro_steps];
    factor = all(kErase == DeltaErase::kBeta || kErase == DeltaErase::kKey ? -h.beta[step][0] : 1);
    if (kErase == DeltaErase::kBeta || kErase == DeltaErase::kVector) x = h.k[step];
    if (kErase == DeltaErase::kKey || kErase == DeltaErase::kPair) x = h.p[step];
    if (kErase == DeltaErase::kVector) b = h.b[step];
  }
  HWY_INLINE V p(int64_t d, int64_t some) const {
    const V v = load_some(x + d, some);
    if (kErase == DeltaErase::kPair) return v;
    if (kErase == DeltaErase::kVector) return hn::Neg(hn::Mul(load_some(b + d, some), v));
    return hn::Mul(factor, v);
  }
};

template <DeltaErase kErase>
void take_rows_of(const DeltaHead<float>& h, int64_t first, int64_t rows, int64_t kp, float* alpha,
                  float* decay, float* tile) {
  constexpr bool kErases = kErase != DeltaErase::kNone;
  constexpr bool kBefore = kErase == DeltaErase::kKey || kErase == DeltaErase::kPair;
  constexpr int64_t kReaders = kErases ? 2 : 1;
  const int64_t padded = (rows + kBlock - 1) / kBlock * kBlock, n = h.micro_steps;
  const V log2e = all(1.44269504088896341f), least = all(-1e4f), scale = all(h.scale);
  const V one = all(1.0f);
  for (int64_t i = 0; i < padded; ++i) {
    float* of_p = tile + (i / kBlock * kBlock * kReaders + i % kBlock) * kp;
    float* of_q = of_p + (kReaders - 1) * kBlock * kp;
    float* now = alpha == nullptr ? nullptr : decay + i * kp;
    if (i >= rows) {
      if (kErases) std::fill_n(of_p, kp, 0.0f);
      std::fill_n(of_q, kp, 0.0f);
      if (alpha == nullptr) continue;
      std::fill_n(alpha + i * kp, kp, 1.0f);
      std::copy_n(now - kp, kp, now);  // rows >= 1
      continue;
    }
    const int64_t step = first + i;
    const Reader<kErase> reader(h, step, n == 1 || (step + 1) % n == 0);
    const float* g = n == 1 ? h.g[step] : step % n == 0 ? h.g[step / n] : nullptr;
    for (int64_t d = 0; d < kp; d += kLanes) {
      const int64_t some = h.key_dim - d;
      V past = one, product = one;
      if (alpha != nullptr) {
        if (i > 0) past = load(now - kp + d);
        V a = one;
        if (g != nullptr)
          a = exp2_fast(D(), hn::Mul(hn::Max(least, load_some(g + d, some)), log2e));
        product = hn::Mul(past, a);
        store(a, alpha + i * kp + d);
        store(product, now + d);
      }
      if constexpr (kErases) store(hn::Mul(reader.p(d, some), kBefore ? past : product), of_p + d);
      V q = hn::Zero(D());
      if (reader.q != nullptr) q = hn::Mul(load_some(reader.q + d, some), scale);
      store(hn::Mul(q, product), of_q + d);
    }
  }
}

void take_rows(const DeltaHead<float>& h, int64_t first, int64_t rows, int64_t kp, float* alpha,
               float* decay, float* tile) {
  switch (h.erase) {
    case DeltaErase::kNone:
      return take_rows_of<DeltaErase::kNone>(h, first, rows, kp, alpha, decay, tile);
    case DeltaErase::kBeta:
      return take_rows_of<DeltaErase::kBeta>(h, first, rows, kp, alpha, decay, tile);
    case DeltaErase::kVector:
      return take_rows_of<DeltaErase::kVector>(h, first, rows, kp, alpha, decay, tile);
    case DeltaErase::kKey:
      return take_rows_of<DeltaErase::kKey>(h, first, rows, kp, alpha, decay, tile);
    case DeltaErase::kPair:
      return take_rows_of<DeltaErase::kPair>(h, first, rows, kp, alpha, decay, tile);
  }
}

void take_keys(const DeltaHead<float>& h, int64_t first, int64_t rows, int64_t kp,
               const float* alpha, float* after, float* tile) {
  const bool pair = h.erase == DeltaErase::kPair;
  const int64_t padded = (rows + kBlock - 1) / kBlock * kBlock, writers = pair ? 2 : 1;
  for (int64_t i = padded - 1; i >= 0; --i) {
    float* of_first = tile + (i / kBlock * kBlock * writers + i % kBlock) * kp;
    float* of_k = of_first + (writers - 1) * kBlock * kp;
    const bool inside = i < rows;
    const float* k = inside ? h.k[first + i] : nullptr;
    const float* b = inside && pair ? h.b[first + i] : nullptr;
    for (int64_t d = 0; d < kp; d += kLanes) {
      const int64_t some = h.key_dim - d;
      V later = all(1.0f);
      if (alpha != nullptr) {
        const int64_t at = (i + 1) * kp + d;
        if (i < padded - 1) later = hn::Mul(load(after + at), load(alpha + at));
        store(later, after + i * kp + d);
      }
      store(inside ? hn::Mul(load_some(k + d, some), later) : hn::Zero(D()), of_k + d);
      if (!pair) continue;
      store(inside ? hn::Mul(load_some(b + d, some), later) : hn::Zero(D()), of_first + d);
    }
  }
}

int64_t mild_blocks(int64_t n, int64_t key_dim, int64_t kp, const float* decay, float least) {
  for (int64_t b = n; b > 0; --b) {
    const float* row = decay + (b * kBlock - 1) * kp;
    V smallest = all(1.0f);
    for (int64_t d = 0; d < key_dim; d += kLanes) {
      const auto inside = first_lanes(key_dim - d);
      smallest = hn::Min(smallest, hn::IfThenElse(inside, load(row + d), all(1.0f)));
    }
    if (hn::GetLane(hn::MinOfLanes(D(), smallest)) >= least) return b;
  }
  return 0;
}

void raise(int64_t rows, int64_t cols, const float* factors, const float* from, int64_t ld,
           float* to) {
  for (int64_t d = 0; d < rows; ++d) {
    const V f = all(factors[d]);
    for (int64_t i = d * ld; i < d * ld + cols; i += kLanes)
      store(hn::Mul(f, load(from + i)), to + i);
  }
}

// Keeps the first `count` of 16 numbers.
HWY_INLINE void keep(float* x, int64_t count, bool negate) {
  for (int64_t j = 0; j < kBlock; j += kLanes) {
    const V v = hn::IfThenElseZero(first_lanes(count - j), load(x + j));
    store(negate ? hn::Neg(v) : v, x + j);
  }
}

// The block on the diagonal, of p and of q.
HWY_INLINE float* diagonal_block(int64_t b, DplrKinds kinds, float* scores, int64_t ld) {
  return scores + b * kBlock * (kinds.readers * ld + kinds.writers);
}

void mask_scores(int64_t n, DplrKinds kinds, float* scores, int64_t ld) {
  for (int64_t b = 0; b < n; ++b) {
    float* of_p = diagonal_block(b, kinds, scores, ld);
    float* of_q = of_p + (kinds.readers - 1) * kBlock * ld;
    for (int64_t i = 0; i < kBlock; ++i) {
      for (int64_t w = 0; w < kinds.writers; ++w) {
        if (kinds.readers == 2) keep(of_p + i * ld + w * kBlock, i, w == 0);
        keep(of_q + i * ld + w * kBlock, i + 1, false);
      }
    }
  }
}

void mask_gradients(int64_t n, DplrKinds kinds, float* d_scores, int64_t ld, float* diagonal) {
  for (int64_t b = 0; b < n; ++b) {
    float* of_p = diagonal_block(b, kinds, d_scores, ld);
    float* of_q = of_p + (kinds.readers - 1) * kBlock * ld;
    for (int64_t i = 0; i < kBlock; ++i) {
      for (int64_t w = 0; w < kinds.writers; ++w) {
        float* row = of_q + i * ld + w * kBlock;
        diagonal[(w * n + b) * kBlock + i] = row[i];
        keep(row, i, false);
        if (kinds.readers == 2) keep(of_p + i * ld + w * kBlock, i, false);
      }
    }
  }
}

template <int kReaders, int kWriters>
void decay_gradient_of(int64_t n, bool before, int64_t kp, const DplrGradients& g, float* dg) {
  const int64_t partner = kBlock * kp;
  for (int64_t d = 0; d < kp; d += kLanes) {
    const auto at = [&](int64_t i, int kinds)
                        HWY_ATTR { return (i / kBlock * kBlock * kinds + i % kBlock) * kp + d; };
    V kept = load(g.state_dot + d);
    for (int64_t i = 0; i < n * kBlock; ++i) {
      store(kept, dg + i * kp + d);
      for (int64_t w = 0, k = at(i, kWriters); w < kWriters; ++w, k += partner)
        kept = hn::MulAdd(load(g.keys + k), load(g.d_keys + k), kept);
    }
    V sum = hn::Zero(D());
    for (int64_t i = n * kBlock - 1; i >= 0; --i) {
      const int64_t p = at(i, kReaders), q = p + (kReaders - 1) * partner;
      sum = hn::MulAdd(load(g.rows + q), load(g.d_rows + q), sum);
      if (g.d_plain != nullptr) sum = hn::MulAdd(load(g.plain_rows + q), load(g.d_plain + q), sum);
      for (int64_t w = 0, k = at(i, kWriters); w < kWriters; ++w, k += partner)
        sum = hn::NegMulAdd(load(g.scored + k), load(g.d_scored + k), sum);
      V erased = hn::Zero(D());
      if (kReaders == 2) erased = hn::Mul(load(g.rows + p), load(g.d_rows + p));
      if (kReaders == 2 && g.d_plain != nullptr)
        erased = hn::MulAdd(load(g.plain_rows + p), load(g.d_plain + p), erased);
      if (!before) sum = hn::Add(sum, erased);
      store(hn::Add(load(dg + i * kp + d), sum), dg + i * kp + d);
      if (before) sum = hn::Add(sum, erased);
    }
  }
}

void decay_gradient(int64_t n, DplrKinds kinds, bool before, int64_t kp, const DplrGradients& g,
                    float* dg) {
  if (kinds.writers == 2) return decay_gradient_of<2, 2>(n, before, kp, g, dg);
  if (kinds.readers == 2) return decay_gradient_of<2, 1>(n, before, kp, g, dg);
  decay_gradient_of<1, 1>(n, before, kp, g, dg);
}

// Gradient of a key of kind w at channel d.
HWY_INLINE V key_gradient(const DplrKeyRow& r, int w, int64_t d, V q) {
  const V after = load(r.after + d);
  V v = load(r.d_scored[w] + d);
  if (r.inverse != nullptr) v = hn::Mul(v, hn::Mul(load(r.inverse + d), after));
  v = hn::MulAdd(load(r.d_keys[w] + d), after, v);
  return hn::MulAdd(all(r.diagonal[w]), q, v);
}

template <DeltaErase kErase>
HWY_INLINE V put_at(const DplrKeyRow& r, int64_t d, int64_t some, DeltaPut how, V dot) {
  constexpr bool kPair = kErase == DeltaErase::kPair;
  const V k = load_some(r.k + d, some), beta = all(r.beta);
  const V b = r.b != nullptr ? load_some(r.b + d, some) : k;
  V q = hn::Zero(D());
  if (r.q != nullptr) q = hn::Mul(all(r.scale), load_some(r.q + d, some));
  if (r.to_q != nullptr) {
    V dq = hn::Mul(load(r.d_q + d), load(r.of_q + d));
    if (r.d_plain_q != nullptr) dq = hn::Add(dq, load(r.d_plain_q + d));
    dq = hn::MulAdd(all(r.diagonal[0]), kPair ? b : k, dq);
    if (kPair) dq = hn::MulAdd(all(r.diagonal[1]), k, dq);
    put(hn::Mul(all(r.scale), dq), r.to_q + d, some, how);
  }
  V dk = key_gradient(r, kPair ? 1 : 0, d, q);
  if (kPair && r.to_b != nullptr) put(key_gradient(r, 0, d, q), r.to_b + d, some, how);
  if (kErase != DeltaErase::kNone) {
    V dp = load(r.d_p + d);
    if (r.of_p != nullptr) dp = hn::Mul(dp, load(r.of_p + d));
    if (r.d_plain_p != nullptr) dp = hn::Add(dp, load(r.d_plain_p + d));
    if (kErase == DeltaErase::kBeta) {
      dk = hn::NegMulAdd(beta, dp, dk);
      dot = hn::NegMulAdd(k, dp, dot);
    } else if (kErase == DeltaErase::kVector) {
      dk = hn::NegMulAdd(b, dp, dk);
      if (r.to_b != nullptr) put(hn::Neg(hn::Mul(k, dp)), r.to_b + d, some, how);
    } else if (kErase == DeltaErase::kKey) {
      dot = hn::NegMulAdd(load_some(r.p + d, some), dp, dot);
      if (r.to_p != nullptr) put(hn::Neg(hn::Mul(beta, dp)), r.to_p + d, some, how);
    } else if (r.to_p != nullptr) {
      put(dp, r.to_p + d, some, how);
    }
  }
  if (r.to_k != nullptr) put(dk, r.to_k + d, some, how);
  return dot;
}

template <DeltaErase kErase>
float put_keys_of(int64_t count, const DplrKeyRow& r, DeltaPut how) {
  V dot = hn::Zero(D());
  for (int64_t d = 0; d < count; d += kLanes) dot = put_at<kErase>(r, d, count - d, how, dot);
  return hn::GetLane(hn::SumOfLanes(D(), dot));
}

float put_keys(DeltaErase erase, int64_t count, const DplrKeyRow& r, DeltaPut how) {
  switch (erase) {
    case DeltaErase::kNone:
      return put_keys_of<DeltaErase::kNone>(count, r, how);
    case DeltaErase::kBeta:
      return put_keys_of<DeltaErase::kBeta>(count, r, how);
    case DeltaErase::kVector:
      return put_keys_of<DeltaErase::kVector>(count, r, how);
    case DeltaErase::kKey:
      return put_keys_of<DeltaErase::kKey>(count, r, how);
    case DeltaErase::kPair:
      return put_keys_of<DeltaErase::kPair>(count, r, how);
  }
  return 0;
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(take_rows);
HWY_EXPORT(take_keys);
HWY_EXPORT(mild_blocks);
HWY_EXPORT(raise);
HWY_EXPORT(mask_scores);
HWY_EXPORT(mask_gradients);
HWY_EXPORT(decay_gradient);
HWY_EXPORT(put_keys);

void dplr_take_rows(const DeltaHead<float>& h, int64_t first, int64_t rows, int64_t kp,
                    float* alpha, float* decay, float* tile) {
  HWY_DYNAMIC_DISPATCH(take_rows)(h, first, rows, kp, alpha, decay, tile);
}

void dplr_take_keys(const DeltaHead<float>& h, int64_t first, int64_t rows, int64_t kp,
                    const float* alpha, float* after, float* tile) {
  HWY_DYNAMIC_DISPATCH(take_keys)(h, first, rows, kp, alpha, after, tile);
}

int64_t dplr_mild_blocks(int64_t n, int64_t key_dim, int64_t kp, const float* decay, float least) {
  return HWY_DYNAMIC_DISPATCH(mild_blocks)(n, key_dim, kp, decay, least);
}

void dplr_raise(int64_t rows, int64_t cols, const float* factors, const float* from, int64_t ld,
                float* to) {
  HWY_DYNAMIC_DISPATCH(raise)(rows, cols, factors, from, ld, to);
}

void dplr_mask_scores(int64_t n, DplrKinds kinds, float* scores, int64_t ld) {
  HWY_DYNAMIC_DISPATCH(mask_scores)(n, kinds, scores, ld);
}

void dplr_mask_gradients(int64_t n, DplrKinds kinds, float* d_scores, int64_t ld, float* diagonal) {
  HWY_DYNAMIC_DISPATCH(mask_gradients)(n, kinds, d_scores, ld, diagonal);
}

void dplr_decay_gradient(int64_t n, DplrKinds kinds, bool before, int64_t kp,
                         const DplrGradients& gradients, float* dg) {
  HWY_DYNAMIC_DISPATCH(decay_gradient)(n, kinds, before, kp, gradients, dg);
}

float dplr_put_keys(DeltaErase erase, int64_t count, const DplrKeyRow& row, DeltaPut put) {
  return HWY_DYNAMIC_DISPATCH(put_keys)(erase, count, row, put);
}

}  // namespace braid
#endif
