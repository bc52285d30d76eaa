#pragma once
// The definition of the recurrence of delta.h, step by step on any scalar type: double for
// references, std::complex<double> for derivatives by the complex step. Not for speed.

#include <cmath>
#include <vector>

#include "braid/kernels/delta/delta.h"

namespace braid {
namespace delta_ref_detail {

// r_t of one micro-step.
template <typename T>
void erase_key(const DeltaHead<T>& h, int64_t step, T* r) {
  for (int64_t d = 0; d < h.key_dim; ++d) {
    switch (h.erase) {
      case DeltaErase::kNone:
        r[d] = T(0);
        break;
      case DeltaErase::kBeta:
        r[d] = h.beta[step][0] * h.k[step][d];
        break;
      case DeltaErase::kVector:
        r[d] = h.b[step][d] * h.k[step][d];
        break;
      case DeltaErase::kKey:
        r[d] = h.beta[step][0] * h.p[step][d];
        break;
      case DeltaErase::kPair:
        r[d] = h.p[step][d];
        break;
    }
  }
}

template <typename T>
T write_gate(const DeltaHead<T>& h, int64_t step, int64_t e) {
  return h.w ? h.w[step][e] : h.beta ? h.beta[step][0] : T(1);
}

// exp(g) of channel d at a micro-step; 1 except on a token's first one.
template <typename T>
T alpha(const DeltaHead<T>& h, int64_t step, int64_t d) {
  using std::exp;
  if (h.decay == DeltaDecay::kNone || step % h.micro_steps != 0) return T(1);
  const T* g = h.g[step / h.micro_steps];
  return exp(h.decay == DeltaDecay::kVector ? g[d] : g[0]);
}

template <typename T>
void advance_pair(const DeltaHead<T>& h, int64_t step, T* state, const T* p, T* u) {
  const int64_t kd = h.key_dim, vd = h.value_dim;
  for (int64_t e = 0; e < vd; ++e) {
    u[e] = T(0);
    for (int64_t d = 0; d < kd; ++d) u[e] += state[d * vd + e] * p[d];
  }
  for (int64_t d = 0; d < kd; ++d) {
    const T a = alpha(h, step, d);
    for (int64_t e = 0; e < vd; ++e) {
      T& s = state[d * vd + e];
      s = a * s + h.b[step][d] * u[e] + h.k[step][d] * h.v[step][e];
    }
  }
}

// One micro-step on `state`; u [V] is left with what was written, by b in a pair.
template <typename T>
void advance(const DeltaHead<T>& h, int64_t step, T* state, T* r, T* u) {
  const int64_t kd = h.key_dim, vd = h.value_dim;
  erase_key(h, step, r);
  if (h.erase == DeltaErase::kPair) {
    advance_pair(h, step, state, r, u);
    return;
  }
  const bool pre = h.erase == DeltaErase::kKey;
  for (int64_t e = 0; e < vd; ++e) {
    u[e] = write_gate(h, step, e) * h.v[step][e];
    for (int64_t d = 0; d < kd; ++d) {
      const T read = pre ? state[d * vd + e] : alpha(h, step, d) * state[d * vd + e];
      u[e] -= read * r[d];
    }
  }
  for (int64_t d = 0; d < kd; ++d) {
    const T a = alpha(h, step, d);
    for (int64_t e = 0; e < vd; ++e)
      state[d * vd + e] = a * state[d * vd + e] + h.k[step][d] * u[e];
  }
}

}  // namespace delta_ref_detail

// state [K, V]: initial in, final out. o [tokens, V].
template <typename T>
void delta_ref_forward(const DeltaHead<T>& h, T* state, DeltaRows<T> o) {
  std::vector<T> r(h.key_dim), u(h.value_dim);
  for (int64_t t = 0; t < h.tokens; ++t) {
    for (int64_t m = 0; m < h.micro_steps; ++m) {
      delta_ref_detail::advance(h, t * h.micro_steps + m, state, r.data(), u.data());
    }
    for (int64_t e = 0; e < h.value_dim; ++e) {
      T sum = T(0);
      for (int64_t d = 0; d < h.key_dim; ++d) sum += state[d * h.value_dim + e] * h.q[t][d];
      o[t][e] = h.scale * sum;
    }
  }
}

namespace delta_ref_detail {

template <typename T>
void retreat_pair(const DeltaHead<T>& h, int64_t step, const T* before, T* carry, T* u,
                  const DeltaHeadGrads<T>& grads) {
  const int64_t kd = h.key_dim, vd = h.value_dim;
  const T *b = h.b[step], *k = h.k[step], *p = h.p[step], *v = h.v[step];
  std::vector<T> du(vd, T(0));
  for (int64_t e = 0; e < vd; ++e) {
    u[e] = T(0);
    for (int64_t d = 0; d < kd; ++d) {
      u[e] += before[d * vd + e] * p[d];
      du[e] += carry[d * vd + e] * b[d];
      if (grads.v) grads.v[step][e] += carry[d * vd + e] * k[d];
    }
  }
  for (int64_t d = 0; d < kd; ++d) {
    const T a = alpha(h, step, d);
    T db = T(0), dk = T(0), dp = T(0), dg = T(0);
    for (int64_t e = 0; e < vd; ++e) {
      T& c = carry[d * vd + e];
      db += c * u[e];
      dk += c * v[e];
      dp += before[d * vd + e] * du[e];
      dg += a * before[d * vd + e] * c;
      c = a * c + p[d] * du[e];
    }
    if (grads.b) grads.b[step][d] += db;
    if (grads.k) grads.k[step][d] += dk;
    if (grads.p) grads.p[step][d] += dp;
    if (h.decay != DeltaDecay::kNone && grads.g)
      grads.g[step][h.decay == DeltaDecay::kVector ? d : 0] += dg;
  }
}

// Backward of one micro-step: carry [K, V] is dL/d(state after) in, dL/d(state before) out.
template <typename T>
void retreat(const DeltaHead<T>& h, int64_t step, const T* before, T* carry, T* r, T* u, T* after,
             const DeltaHeadGrads<T>& grads) {
  const int64_t kd = h.key_dim, vd = h.value_dim, token = step / h.micro_steps;
  if (h.erase == DeltaErase::kPair) {
    retreat_pair(h, step, before, carry, u, grads);
    return;
  }
  const bool pre = h.erase == DeltaErase::kKey;
  for (int64_t i = 0; i < kd * vd; ++i) after[i] = before[i];
  advance(h, step, after, r, u);
  const T* k = h.k[step];
  std::vector<T> du(vd, T(0));
  for (int64_t d = 0; d < kd; ++d) {
    T dk = T(0);
    for (int64_t e = 0; e < vd; ++e) {
      du[e] += carry[d * vd + e] * k[d];
      dk += carry[d * vd + e] * u[e];
    }
    if (grads.k) grads.k[step][d] += dk;
  }
  T dbeta = T(0);
  for (int64_t e = 0; e < vd; ++e) {
    if (grads.v) grads.v[step][e] += write_gate(h, step, e) * du[e];
    if (h.w) {
      if (grads.w) grads.w[step][e] += h.v[step][e] * du[e];
    } else {
      dbeta += h.v[step][e] * du[e];
    }
  }
  for (int64_t d = 0; d < kd; ++d) {
    const T a = alpha(h, step, d);
    T dr = T(0), dg = T(0);
    for (int64_t e = 0; e < vd; ++e) {
      const T decayed = a * before[d * vd + e];
      T& c = carry[d * vd + e];
      dr -= (pre ? before[d * vd + e] : decayed) * du[e];
      const T m = pre ? c : c - r[d] * du[e];
      dg += decayed * m;
      c = a * m - (pre ? r[d] * du[e] : T(0));
    }
    if (h.decay != DeltaDecay::kNone && grads.g && step % h.micro_steps == 0) {
      grads.g[token][h.decay == DeltaDecay::kVector ? d : 0] += dg;
    }
    switch (h.erase) {
      case DeltaErase::kNone:
        break;
      case DeltaErase::kBeta:
        dbeta += k[d] * dr;
        if (grads.k) grads.k[step][d] += h.beta[step][0] * dr;
        break;
      case DeltaErase::kVector:
        if (grads.b) grads.b[step][d] += k[d] * dr;
        if (grads.k) grads.k[step][d] += h.b[step][d] * dr;
        break;
      case DeltaErase::kKey:
        dbeta += h.p[step][d] * dr;
        if (grads.p) grads.p[step][d] += h.beta[step][0] * dr;
        break;
      case DeltaErase::kPair:
        break;
    }
  }
  if (h.beta && grads.beta) grads.beta[step][0] += dbeta;
}

}  // namespace delta_ref_detail

// initial [K, V]; carry [K, V]: dL/d(final state) in, dL/d(initial state) out. d_o [tokens, V].
// Keeps every state: tokens * micro_steps * K * V values.
template <typename T>
void delta_ref_backward(const DeltaHead<T>& h, const T* initial, DeltaRows<const T> d_o, T* carry,
                        const DeltaHeadGrads<T>& grads) {
  const int64_t kd = h.key_dim, vd = h.value_dim, size = kd * vd, n = h.micro_steps;
  std::vector<T> states(initial, initial + size), r(kd), u(vd), after(size);
  states.reserve(static_cast<size_t>((h.tokens * n + 1) * size));
  for (int64_t step = 0; step < h.tokens * n; ++step) {
    for (int64_t i = 0; i < size; ++i) states.push_back(states[step * size + i]);
    delta_ref_detail::advance(h, step, &states[(step + 1) * size], r.data(), u.data());
  }
  for (int64_t t = h.tokens - 1; t >= 0; --t) {
    const T* state = &states[(t + 1) * n * size];
    for (int64_t d = 0; d < kd; ++d) {
      T dq = T(0);
      for (int64_t e = 0; e < vd; ++e) {
        dq += state[d * vd + e] * d_o[t][e];
        carry[d * vd + e] += h.scale * h.q[t][d] * d_o[t][e];
      }
      if (grads.q) grads.q[t][d] += h.scale * dq;
    }
    for (int64_t step = (t + 1) * n - 1; step >= t * n; --step) {
      delta_ref_detail::retreat(h, step, &states[step * size], carry, r.data(), u.data(),
                                after.data(), grads);
    }
  }
}

}  // namespace braid
