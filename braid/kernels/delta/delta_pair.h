#pragma once
// The recurrence of delta.h with a diagonal-plus-rank-one transition (DPLR; RWKV-7, arXiv
// 2503.14456) for one value head, in chunks (specs/state-space.md section 2.2):
//   S = Diag(exp(g)) S + b (S^T p)^T + k v^T,   o = scale * S^T q
// p reads the state before the decay. Two keys, b and k, write two values, u = S^T p and v.
//
// While the decays of some tokens multiply to no less than e^-40 in every channel, they are put
// into rows: with P_i their product up to row i, the scores of all four kinds are one product of
// the rows (p_i P_(i-1) | q_i P_i) with the keys (b_j / P_j | k_j / P_j). A chunk that decays more
// is taken in runs of as many tokens as stay above that; a token that alone decays more is a run of
// its own, in which no decay lies between rows.

#include <cstdint>
#include <span>

#include "braid/kernels/delta/delta.h"
#include "braid/kernels/delta/delta_scratch.h"
#include "braid/kernels/gemm/small.h"

namespace braid {

class DeltaPairPlan {
 public:
  static constexpr int64_t kMostHeads = 4;  // of a call
  static constexpr int64_t kMaxBlocks = 4;

  // chunk: tokens per chunk, a multiple of 16 up to 64; 0 = the fastest measured.
  DeltaPairPlan(int64_t key_dim, int64_t value_dim, int64_t chunk = 0);

  int64_t chunk() const { return chunk_; }
  int64_t chunks(int64_t tokens) const { return (tokens + chunk_ - 1) / chunk_; }
  int64_t forward_scratch() const;   // floats
  int64_t backward_scratch() const;  // floats

  // Products of `tokens` tokens of one value head as done here while decays are mild.
  double forward_flops(int64_t tokens) const;
  double backward_flops(int64_t tokens) const;

  // Heads of erase kPair and decay kVector, taken together chunk by chunk: rows of neighbours lie
  // side by side in memory.
  void forward(std::span<const DeltaForward> heads, float* scratch) const;
  void backward(std::span<const DeltaBackward> heads, float* scratch) const;

 private:
  struct Tiles;
  struct BackTiles;
  Tiles carve_forward(DeltaCarver& c) const;
  BackTiles carve_backward(DeltaCarver& c) const;
  int64_t prepare(const DeltaHead<float>& h, int64_t first, int64_t rows, Tiles& t,
                  DeltaAhead& ahead) const;
  void scores(Tiles& t, DeltaAhead& ahead) const;
  void take_values(const DeltaHead<float>& h, int64_t first, int64_t rows,
                   DeltaRows<const float> written, const Tiles& t) const;
  void write_state(const Tiles& t, const float* keys_t, const float* values, float* state,
                   DeltaAhead& ahead) const;
  void forward_run(const DeltaForward& head, int64_t first, int64_t rows, const Tiles& t,
                   DeltaAhead& ahead) const;
  void backward_chunk(const DeltaBackward& head, int64_t chunk, Tiles& t, const BackTiles& b,
                      DeltaAhead& ahead) const;
  void backward_run(const DeltaBackward& head, int64_t first, int64_t rows, const Tiles& t,
                    const BackTiles& b, DeltaAhead& ahead) const;
  void value_gradients(const Tiles& t, const BackTiles& b, DeltaAhead& ahead) const;
  void key_gradients(const Tiles& t, const BackTiles& b, DeltaAhead& ahead) const;
  void emit(const DeltaBackward& head, int64_t first, int64_t rows, const Tiles& t,
            const BackTiles& b) const;
  void pack_state(const float* state, float* tile) const;
  void unpack_state(const float* tile, float* state, bool stream) const;

  int64_t key_dim_, value_dim_, kp_, vp_, chunk_;
  // Products, by the number of blocks in question (less one); a block is 16 tokens, 32 rows.
  SmallGemm score_[kMaxBlocks];     // [32, w, kp] = rows times keys^T, w = 32 (blocks)
  SmallGemm read_;                  // [32, vp, kp] = rows times state
  SmallGemm mix_[kMaxBlocks];       // [16, vp, w] += scores of p or q times values
  SmallGemm mix_own_;               // [16, vp, 16] += the same within a block
  SmallGemm mix_back_[kMaxBlocks];  // [32, vp, w] += scores^T times gradients of values
  SmallGemm mix_back_own_;          // [32, vp, 16] += the same within a block
  SmallGemm write_[kMaxBlocks];     // [16, vp, w] += rows of keys^T times values
  SmallGemm d_score_[kMaxBlocks];   // [32, w, vp] = rows of values times values^T
  SmallGemm unread_[kMaxBlocks];    // [16, w, vp] = rows of the state times values^T
  SmallGemm mix_keys_[kMaxBlocks];  // [32, kp, w] += score gradients times keys
};

}  // namespace braid
