#pragma once
// The recurrence that linear attention, RetNet, lightning, GLA, DeltaNet, GDN, KDA, GDN-2, Comba
// and DeltaProduct share (kernels/delta/delta.h has the equations). Value head j of HV = G * H uses
// key head j / G.
//
//   mixer         decay     erase    operands beyond q k v         scale
//   linear attn   kNone     kNone    -                             K^-1/2
//   retnet        kPerHead  kNone    g [HV] = log(1 - 2^(-5-h))    K^-1/2
//   lightning     kPerHead  kNone    g [HV] = -slope               1
//   gla           kVector   kNone    g                             K^-1/2
//   deltanet      kNone     kBeta    beta                          K^-1/2
//   gdn           kScalar   kBeta    g beta                        K^-1/2
//   kda           kVector   kBeta    g beta                        K^-1/2
//   gdn2          kVector   kVector  g b w                         K^-1/2
//   comba         kScalar   kKey     g beta p                      K^-1/2
//   deltaproduct  kScalar   kBeta    g beta, micro_steps = n       K^-1/2
//   mamba2        kScalar   kNone    g beta (the step sizes)       1
//   rwkv7         kVector   kPair    g b p                         1
//   rwkv6: ops/wkv.h

#include <cstdint>
#include <span>

#include "braid/core/tensor.h"
#include "braid/ops/tape.h"

namespace braid {

struct RecurrenceConfig {
  enum class Decay { kNone, kPerHead, kScalar, kVector };
  // The erase key r: none (no delta rule), beta k, b (.) k, or beta p. kKey reads the state before
  // the decay. kPair (diagonal plus rank one, arXiv 2503.14456) has a direction b of its own:
  //   S = Diag(exp(g)) S + b (S^T p)^T + k v^T.
  enum class Erase { kNone, kBeta, kVector, kKey, kPair };
  Decay decay = Decay::kNone;
  Erase erase = Erase::kNone;
  int64_t micro_steps =
      1;  // n: writes per token; the decay acts before the first, q reads after the last
  float scale = 1.0f;  // multiplies the output
  int64_t chunk = 0;   // micro-steps per chunk: 16, 32, 48 or 64; 0 = the fastest
};

// T tokens of all sequences laid end to end; n = micro_steps. Tensors may be views with any token
// and head stride; the last dimension must be dense. Gates may have H heads in place of HV: then
// the G value heads of a group share them. q and k are used as given: no normalisation, no scale.
struct RecurrenceInputs {
  Tensor q;     // [T, H, K]
  Tensor k;     // [T * n, H, K]
  Tensor v;     // [T * n, HV, V]
  Tensor g;     // natural-log decay, <= 0. kPerHead: [HV], kScalar: [T, HV], kVector: [T, HV, K]
  Tensor beta;  // [T * n, HV]. Also the write gate when w is absent; neither: the write gate is 1
  Tensor b;     // [T * n, HV, K] kVector, [T, H, K] kPair
  Tensor w;     // [T * n, HV, V]
  Tensor p;     // [T * n, H, K], kKey and kPair
};

// What the backward pass needs beside the inputs.
struct RecurrenceSaved {
  // States at the start of each chunk of each sequence, in order: [chunks, HV, K, V].
  Tensor states;
  // What each step wrote to the state, with delta rule only: [T * n, HV, V].
  Tensor written;
};

// Gradients of all defined inputs, shaped as those, contiguous.
struct RecurrenceGrads {
  Tensor q, k, v, g, beta, b, w, p;
  Tensor initial_states;  // [sequences, HV, K, V]
};

// -> o [T, HV, V]. Sequence s owns tokens [seq_starts[s], seq_starts[s + 1]). states: one [HV, K,
// V] block per sequence, initial state in, final state out; empty = every sequence starts from zero
// and nothing is kept. Picks the step or the chunked kernel by itself. Recorded on ctx.tape;
// gradients do not flow through `states`. Counts its products. Throws Error(kUsage) for shapes that
// do not fit together.
Tensor recurrence(const Context& ctx, const RecurrenceConfig& config, const RecurrenceInputs& in,
                  std::span<const int64_t> seq_starts, std::span<float* const> states = {});

// The same without the tape; `saved` may be null.
Tensor recurrence_forward(const Context& ctx, const RecurrenceConfig& config,
                          const RecurrenceInputs& in, std::span<const int64_t> seq_starts,
                          std::span<float* const> states, RecurrenceSaved* saved);

// d_out [T, HV, V]; d_final_states [sequences, HV, K, V] or undefined for zero.
RecurrenceGrads recurrence_backward(const Context& ctx, const RecurrenceConfig& config,
                                    const RecurrenceInputs& in, std::span<const int64_t> seq_starts,
                                    const RecurrenceSaved& saved, const Tensor& d_out,
                                    const Tensor& d_final_states);

// Products of one sequence of `tokens` tokens as counted by ctx.count_product, 1 multiply-add = 2:
// what the chunk form does (triangles by blocks of 16 rows). Steps, where the forward pass takes
// those, count 6 K V (4 K V without delta rule) each.
double recurrence_forward_flops(const RecurrenceConfig& config, int64_t tokens, int64_t key_heads,
                                int64_t value_heads, int64_t key_dim, int64_t value_dim,
                                bool saved = false);
double recurrence_backward_flops(const RecurrenceConfig& config, int64_t tokens, int64_t key_heads,
                                 int64_t value_heads, int64_t key_dim, int64_t value_dim);

}  // namespace braid
