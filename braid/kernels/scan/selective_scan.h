#pragma once
// Mamba's selective scan (arXiv 2312.00752): per channel d and state n of one sequence,
//   dt_t = softplus(raw_t[d] + dt_bias[d])
//   h_t  = exp(dt_t A[d, n]) h_(t-1) + dt_t x_t[d] B_t[n]
//   y_t  = sum_n h_t C_t[n] + D[d] x_t[d]
// Its decay is a matrix of its own for every token, so it is no case of kernels/delta. Channels are
// the vector dimension; a vector's states stay in registers over time.

#include <cstdint>

namespace braid {

constexpr int64_t kScanBlock = 128;     // channels of one call
constexpr int64_t kScanChunk = 16;      // tokens between the states that backward starts from
constexpr int64_t kMaxScanState = 256;  // N

// One sequence; every pointer is of its first token and of the block's first channel.
struct ScanOperands {
  int64_t tokens = 0;
  int64_t channels = 0;      // of the block, at most kScanBlock
  int64_t states = 0;        // N
  const float* x = nullptr;  // [tokens, D]
  int64_t ldx = 0;
  const float* raw = nullptr;  // [tokens, D], before bias and softplus
  int64_t ld_raw = 0;
  const float* b = nullptr;  // [tokens, N]
  int64_t ldb = 0;
  const float* c = nullptr;  // [tokens, N]
  int64_t ldc = 0;
  const float* a2 = nullptr;  // [N, D]: A log2(e), row stride ld_a
  int64_t ld_a = 0;
  const float* skip = nullptr;  // D, [D]
  const float* bias = nullptr;  // dt_bias, [D]
};

// a2 [N, channels], row stride ld_a: -exp(A_log) log2(e) of a_log [channels, N], dense.
void selective_scan_rates(const float* a_log, int64_t channels, int64_t states, float* a2,
                          int64_t ld_a);

// h [N, D], row stride ld_h: the state before in, after out. y [tokens, D]. kept (may be null): the
// state before every kScanChunk tokens, [chunks, N, D] with row stride ld_kept.
void selective_scan_f32(const ScanOperands& s, float* h, int64_t ld_h, float* y, int64_t ldy,
                        float* kept, int64_t ld_kept);

// Where the gradients of a block go. Those of tokens are stored, the sums over tokens added.
struct ScanGradients {
  float* dx = nullptr;  // [tokens, D]
  int64_t ld_dx = 0;
  float* draw = nullptr;  // [tokens, D]
  int64_t ld_draw = 0;
  float* db = nullptr;  // [tokens, N], dense: the block's part
  float* dc = nullptr;  // [tokens, N], dense: the block's part
  float* da = nullptr;  // [N, D], of A; row stride ld_a
  int64_t ld_a = 0;
  float* dskip = nullptr;  // [D]
  float* dbias = nullptr;  // [D]
};

int64_t selective_scan_scratch();  // floats, 64-byte aligned

// kept: as the forward pass left it. carry [N, D], row stride ld_carry: the gradient of the state
// after the sequence in, before it out.
void selective_scan_backward_f32(const ScanOperands& s, const float* kept, int64_t ld_kept,
                                 const float* dy, int64_t ld_dy, float* carry, int64_t ld_carry,
                                 const ScanGradients& to, float* scratch);

// The arithmetic of `tokens` tokens of `channels` channels alone, from registers: what bounds the
// forward pass. `sink` takes the result.
void selective_scan_arithmetic(int64_t tokens, int64_t channels, int64_t states, float* sink);

}  // namespace braid
