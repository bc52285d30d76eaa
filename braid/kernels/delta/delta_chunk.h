#pragma once
// The recurrence of delta.h in chunks: inside a chunk its tokens become small matrix products,
// between chunks the state is carried (specs/linear-recurrences.md sections 3 to 5; sources:
// 2312.06635, 2406.06484, 2412.06464, 2510.26692). Scores, the triangular solve and the products
// with scores are done by blocks of 16 rows at or below the diagonal only. Decays are products of
// exp(g) <= 1 or exponentials of sums taken in double, so that no exponent is ever positive and
// strong decays lose nothing.

#include <cstdint>

#include "braid/kernels/delta/delta.h"
#include "braid/kernels/delta/delta_rows.h"
#include "braid/kernels/delta/delta_scratch.h"
#include "braid/kernels/gemm/small.h"

namespace braid {

// What the forward pass leaves for the backward pass; null = not kept.
template <typename T>
struct DeltaSaved {
  DeltaRows<T> states;   // [chunks] blocks [K, V]: the state before each chunk
  DeltaRows<T> written;  // [tokens * n, V]: u_t. With delta rule only
};

class DeltaChunkPlan {
 public:
  static constexpr int64_t kMaxBlocks = 4;

  // What heads of one form share: products made just in time and sizes of scratch. chunk:
  // micro-steps per chunk, a multiple of 16 up to 64; 0 = the fastest measured.
  DeltaChunkPlan(int64_t key_dim, int64_t value_dim, DeltaDecay decay, DeltaErase erase,
                 int64_t chunk = 0);

  int64_t chunk() const { return chunk_; }
  int64_t chunks(int64_t steps) const { return (steps + chunk_ - 1) / chunk_; }
  int64_t forward_scratch() const;   // floats
  int64_t backward_scratch() const;  // floats

  // Products of `steps` micro-steps of one value head as done here, 1 multiply-add = 2.
  double forward_flops(int64_t steps) const;
  double backward_flops(int64_t steps) const;

  // state [K, V]: initial in, final out. o [tokens, V]. scratch: forward_scratch() floats, 64-byte
  // aligned.
  void forward(const DeltaHead<float>& h, float* state, DeltaRows<float> o,
               const DeltaSaved<float>& saved, float* scratch) const;

  // saved: as forward left it. d_o [tokens, V]. carry [K, V]: gradient of the final state in, of
  // the initial state out. Gradients are stored, or added when `add`; that of a decay constant in
  // time (stride 0) is always added.
  void backward(const DeltaHead<float>& h, const DeltaSaved<const float>& saved,
                DeltaRows<const float> d_o, float* carry, const DeltaHeadGrads<float>& grads,
                bool add, float* scratch) const;

 private:
  struct Tiles;
  struct BackTiles;
  class Ahead;
  Tiles carve_forward(DeltaCarver& c) const;
  BackTiles carve_backward(DeltaCarver& c) const;
  void prepare(const DeltaHead<float>& h, int64_t first, int64_t rows, Tiles& t,
               DeltaRows<const float> written) const;
  void pack(const DeltaHead<float>& h, int64_t first, int64_t rows, Tiles& t,
            DeltaRows<const float> written) const;
  void pack_state(const float* state, float* tile) const;
  void unpack_state(const float* tile, float* state) const;
  void scalar_scores(const Tiles& t) const;
  void vector_scores(const Tiles& t) const;
  void forward_chunk(const DeltaHead<float>& h, int64_t first, int64_t rows, Tiles& t,
                     DeltaRows<float> o, DeltaRows<float> written, Ahead& ahead) const;
  void backward_chunk(const DeltaHead<float>& h, int64_t first, int64_t rows, Tiles& t,
                      BackTiles& b, DeltaRows<const float> written, DeltaRows<const float> d_o,
                      const DeltaHeadGrads<float>& grads, DeltaPut put, Ahead& ahead) const;
  void read_rows(int64_t rows, const float* keys, const float* state, float* y, Ahead& ahead) const;
  void unread_rows(int64_t rows, const float* values, const float* state_t, float* to,
                   Ahead& ahead) const;
  void unread_transposed(int64_t rows, const float* values_t, const float* state, float* result_t,
                         float* to, Ahead& ahead) const;
  void value_gradients(const Tiles& t, const BackTiles& b, Ahead& ahead) const;
  void score_gradients(const Tiles& t, const BackTiles& b) const;
  void scalar_key_gradients(const Tiles& t, const BackTiles& b) const;
  void vector_key_gradients(const Tiles& t, const BackTiles& b) const;
  void decay_gradients(const Tiles& t, const BackTiles& b) const;
  void emit(const DeltaHead<float>& h, int64_t first, int64_t rows, const Tiles& t,
            const BackTiles& b, const DeltaHeadGrads<float>& grads, DeltaPut put) const;
  void carry_back(const Tiles& t, const BackTiles& b, Ahead& ahead) const;

  int64_t key_dim_, value_dim_, kp_, vp_, chunk_;
  bool delta_, vector_, pre_;
  // Products, by the number of blocks in question (less one). [m, n, k] with w = 16 (blocks).
  SmallGemm score_[kMaxBlocks];       // [16, w, kp] = rows of q or r times keys^T
  SmallGemm read_;                    // [16, vp, kp] = rows times state
  SmallGemm mix_values_[kMaxBlocks];  // [16, vp, w] += scores or keys^T times values
  SmallGemm d_score_[kMaxBlocks];     // [16, w, vp] = rows of values times values^T
  SmallGemm unread_;                  // [16, kp, vp] = rows of values times state^T
  SmallGemm unread_t_[kMaxBlocks];    // [16, w, vp] = rows of the state times values^T
  SmallGemm mix_keys_[kMaxBlocks];    // [16, kp, w] += score gradients times keys
  SmallGemm spread_[kMaxBlocks];      // [w, kp, 16] += score gradients^T times a block of rows
  SmallGemm carry_[2 * kMaxBlocks];   // [16, vp, w] += rows^T times value gradients
};

}  // namespace braid
