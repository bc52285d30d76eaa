#pragma once
// The recurrence of delta.h with a decay per channel, whose transition is diagonal plus rank one or
// none (DPLR; GLA, KDA, GDN-2, Comba per channel, RWKV-7), for one value head in chunks
// (specs/linear-recurrences.md sections 3 to 5, specs/state-space.md section 2.2; sources:
// 2312.06635, 2503.14456, 2510.26692):
//   u = w (.) v + S^T p with p = -r,   S = Diag(exp(g)) S + k u^T,   o = scale * S^T q
// and of erase kPair, where two keys, b and k, write two values:
//   u = S^T p,   S = Diag(exp(g)) S + b u^T + k v^T
// p reads the state after the token's decay, or before it as DeltaErase says.
//
// While the decays of a chunk's blocks of 16 micro-steps multiply to no less than e^-40 in every
// channel, they are put into rows: with P_i their product up to row i, the scores of all kinds are
// one product of the rows (p_i P_i | q_i P_i) with the keys k_j / P_j. A chunk that decays more is
// taken in runs of as many blocks as stay above that; a block that alone decays more is a run of
// its own, whose scores come from keys that decay from row to row.

#include <cstdint>
#include <span>

#include "braid/kernels/delta/delta_plan.h"
#include "braid/kernels/gemm/small.h"

namespace braid {

class DplrPlan : public DeltaPlan {
 public:
  // chunk: as DeltaPlan.
  DplrPlan(int64_t key_dim, int64_t value_dim, DeltaErase erase, int64_t chunk = 0);

  int64_t forward_scratch() const;   // floats
  int64_t backward_scratch() const;  // floats

  // Products of `steps` micro-steps of one value head as done here while decays are mild, 1
  // multiply-add = 2.
  double forward_flops(int64_t steps) const;
  double backward_flops(int64_t steps) const;

  // Heads of the plan's erase and decay kVector, taken together chunk by chunk: rows of neighbours
  // lie side by side in memory. scratch: 64-byte aligned.
  void forward(std::span<const DeltaForward> heads, float* scratch) const;
  void backward(std::span<const DeltaBackward> heads, float* scratch) const;

 private:
  struct Tiles;
  struct BackTiles;
  bool pair() const { return erase_ == DeltaErase::kPair; }
  int64_t readers() const { return erases() ? 2 : 1; }
  int64_t writers() const { return pair() ? 2 : 1; }
  Tiles carve_forward(DeltaCarver& c) const;
  BackTiles carve_backward(DeltaCarver& c) const;
  int64_t begin_run(const DeltaHead<float>& h, int64_t first, int64_t rows, Tiles& t) const;
  void take_keys(const DeltaHead<float>& h, int64_t first, int64_t rows, const Tiles& t) const;
  void scores(const DeltaHead<float>& h, int64_t first, int64_t rows, const Tiles& t,
              DeltaAhead& ahead) const;
  void take_values(const DeltaHead<float>& h, int64_t first, int64_t rows,
                   DeltaRows<const float> written, const Tiles& t) const;
  void write_state(const Tiles& t, float* state, DeltaAhead& ahead) const;
  void forward_run(const DeltaForward& head, int64_t first, int64_t rows, const Tiles& t,
                   DeltaAhead& ahead) const;
  void erase_block(int64_t b, const Tiles& t) const;
  void backward_chunk(const DeltaBackward& head, int64_t chunk, Tiles& t, BackTiles& b,
                      DeltaAhead& ahead) const;
  void backward_run(const DeltaBackward& head, int64_t first, int64_t rows, const Tiles& t,
                    BackTiles& b, DeltaAhead& ahead) const;
  void value_gradients(const Tiles& t, const BackTiles& b, DeltaAhead& ahead) const;
  void score_gradients(const Tiles& t, const BackTiles& b) const;
  void state_gradients(const Tiles& t, const BackTiles& b, DeltaAhead& ahead) const;
  void key_gradients(const Tiles& t, BackTiles& b, DeltaAhead& ahead) const;
  void decay_gradients(const Tiles& t, const BackTiles& b) const;
  void carry_back(const Tiles& t, const BackTiles& b, DeltaAhead& ahead) const;
  void put_values(const DeltaBackward& head, int64_t first, int64_t rows, DeltaPut put,
                  const BackTiles& b) const;
  void put_keys(const DeltaBackward& head, int64_t first, int64_t rows, DeltaPut put,
                const Tiles& t, const BackTiles& b) const;

  // Products, by the number of blocks in question (less one); r, w: 16 readers(), 16 writers()
  // times those.
  SmallGemm score_[kMaxBlocks];     // [r of a block, w, kp] = rows times keys^T
  SmallGemm read_;                  // [16, vp, kp] = rows times state
  SmallGemm read_add_;              // the same, added
  SmallGemm mix_[kMaxBlocks];       // [16, vp, w] += scores of p or q times values
  SmallGemm mix_own_;               // [16, vp, 16] += the same within a block
  SmallGemm write_[kMaxBlocks];     // [16, vp, w] += rows of keys^T times values
  SmallGemm read_keys_;             // [w of a block, vp, kp] = keys times the carried gradient
  SmallGemm mix_back_[kMaxBlocks];  // [w of a block, vp, r] += scores^T times gradients of values
  SmallGemm mix_back_own_;          // [w of a block, vp, 16] += the same within a block
  SmallGemm d_score_[kMaxBlocks];   // [r of a block, w, vp] = rows of values times values^T
  SmallGemm unread_keys_[kMaxBlocks];  // [16, w, vp] = rows of the carried gradient times values^T
  SmallGemm unread_rows_[kMaxBlocks];  // [16, r, vp] = rows of the state times values^T
  SmallGemm mix_keys_[kMaxBlocks];     // [r of a block, kp, w] += score gradients times keys
  SmallGemm mix_rows_[kMaxBlocks];     // [w of a block, kp, r] += score gradients^T times rows
  SmallGemm carry_[kMaxBlocks];        // [16, vp, r] += rows^T times gradients of values
};

}  // namespace braid
