#pragma once
// The unified recurrence of linear attention and the delta rule, for one value head of one
// sequence. Per token t:
//   S~  = Diag(exp(g_t)) S                 u_t = w_t (.) v_t - S~^T r_t
//   S   = S~ + k_t u_t^T                   o_t = scale * S^T q_t
// with state S [K, V] (row = key channel), erase key r and write gate w as DeltaHead says. A token
// may consist of several micro-steps: the decay acts before the first, the output is read after the
// last. Sources: 2307.08621, 2312.06635, 2406.06484, 2412.06464, 2502.10297, 2506.02475,
// 2510.26692.

#include <cstdint>

namespace braid {

enum class DeltaDecay { kNone, kScalar, kVector };

// The erase key r_t: none (no delta rule), beta k, b (.) k, or beta p. kKey also reads the state
// BEFORE this token's decay (Comba): u_t uses S in place of S~. kPair writes two rows instead
// (RWKV-7): u_t = S^T p_t, S = S~ + b_t u_t^T + k_t v_t^T, without beta and w, one micro-step a
// token.
enum class DeltaErase { kNone, kBeta, kVector, kKey, kPair };

// Rows of one operand, one per token (or micro-step), `stride` elements apart; null = absent.
template <typename T>
struct DeltaRows {
  T* data = nullptr;
  int64_t stride = 0;
  T* operator[](int64_t t) const { return data + t * stride; }
  explicit operator bool() const { return data != nullptr; }
};

// The operands of one value head. n = micro_steps. The write gate is w if present, else beta if
// present, else 1.
template <typename T>
struct DeltaHead {
  int64_t tokens = 0;
  int64_t micro_steps = 1;
  int64_t key_dim = 0;    // K
  int64_t value_dim = 0;  // V
  DeltaDecay decay = DeltaDecay::kNone;
  DeltaErase erase = DeltaErase::kNone;
  T scale = T(1);
  DeltaRows<const T> q;  // [tokens, K]
  DeltaRows<const T> k;  // [tokens * n, K]
  DeltaRows<const T> v;  // [tokens * n, V]
  DeltaRows<const T>
      g;  // natural-log decay, <= 0: [tokens] (stride 0: constant in time) or [tokens, K]
  DeltaRows<const T> beta;  // [tokens * n]
  DeltaRows<const T> b;     // [tokens * n, K]: a factor of k, or the second key of a pair
  DeltaRows<const T> w;     // [tokens * n, V]
  DeltaRows<const T> p;     // [tokens * n, K]
};

// Where gradients of a DeltaHead's operands are ADDED, shapes as there; null = not wanted.
template <typename T>
struct DeltaHeadGrads {
  DeltaRows<T> q, k, v, g, beta, b, w, p;
};

// One value head going forward in chunks.
struct DeltaForward {
  DeltaHead<float> in;
  float* state = nullptr;    // [K, V]: initial in, final out
  DeltaRows<float> o;        // [tokens, V]
  DeltaRows<float> states;   // [chunks] blocks [K, V]: the state before each chunk; null = not kept
  DeltaRows<float> written;  // [tokens, V]: u_t; null = not kept
};

// And back, with what forward kept. Gradients are stored; `add`: those of operands that other heads
// share are added.
struct DeltaBackward {
  DeltaHead<float> in;
  DeltaRows<const float> states, written;
  DeltaRows<const float> d_o;  // [tokens, V]
  float* carry = nullptr;      // [K, V]: gradient of the final state in, of the initial state out
  DeltaHeadGrads<float> grads;
  bool add = false;
};

}  // namespace braid
