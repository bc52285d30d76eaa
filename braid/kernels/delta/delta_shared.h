#pragma once
// The recurrence of delta.h with one decay a token and head or none (linear attention, RetNet,
// lightning, Mamba-2, Mamba-3; with delta rule DeltaNet, GDN, DeltaProduct, Comba), in chunks, for
// value heads that share queries and keys: state-space duality, 2405.21060; the delta rule's
// chunks, 2406.06484, 2412.06464; specs/state-space.md section 2.1, specs/linear-recurrences.md
// sections 3 to 5. What depends on queries and keys alone, scores above all, is made once a chunk
// for all heads of a call.
//
// With E_i the decay from the chunk's start to row i, inclusive, and while E stays above e^-40, the
// decays go into rows: u_j = v_j / E_j, o_i = E_i (q_i S + sum_(j <= i) (q_i k_j) u_j), and the
// state becomes E_end (S + sum_j k_j u_j), whose factor is left to the next chunk's E. Every
// product is then one of shared scores or keys, and no exponent leaves the range of f32. Chunks
// that decay more take the decay between rows into the scores of each head.
//
// Under the delta rule u_i = v_i / E_i - c_i (x_i S + sum_(j < i) (x_i k_j) u_j), a triangular
// system of shared scores with gated rows: x = k and c = beta, or x = p and c_i = beta_i E_(i-1) /
// E_i where the state is read before the decay.

#include <cstdint>
#include <span>

#include "braid/kernels/delta/delta_plan.h"
#include "braid/kernels/gemm/small.h"

namespace braid {

class DeltaSharedPlan : public DeltaPlan {
 public:
  // erase: kNone, kBeta or kKey. chunk: as DeltaPlan.
  DeltaSharedPlan(int64_t key_dim, int64_t value_dim, DeltaErase erase, int64_t chunk = 0);

  int64_t forward_scratch() const;   // floats
  int64_t backward_scratch() const;  // floats

  // Products of `steps` micro-steps of a group of `heads` heads as done here, 1 multiply-add = 2.
  double forward_flops(int64_t steps, int64_t heads) const;
  double backward_flops(int64_t steps, int64_t heads) const;

  // Heads of decay kNone or kScalar; every `group` of them, one after the other, share q, k and p,
  // whose gradients are sums over them, put where the last one says. scratch: 64-byte aligned.
  void forward(std::span<const DeltaForward> heads, int64_t group, float* scratch) const;
  void backward(std::span<const DeltaBackward> heads, int64_t group, float* scratch) const;

 private:
  struct Tiles;
  struct BackTiles;
  struct Decays;
  struct Carried;
  Tiles carve_forward(DeltaCarver& c) const;
  BackTiles carve_backward(DeltaCarver& c) const;
  void share(const DeltaHead<float>& h, int64_t first, int64_t rows, Tiles& t) const;
  void scores(const float* keys, const Tiles& t, float* to) const;
  void read_rows(const float* keys, const float* state, float* y, const Tiles& t,
                 DeltaAhead& ahead) const;
  void write_rows(const float* keys_t, const float* values, float* state, const Tiles& t,
                  DeltaAhead& ahead) const;
  void unread_rows(const SmallGemm* product, const float* state, const float* values_t, float* to,
                   const Tiles& t, DeltaAhead& ahead) const;
  Decays decays(const DeltaHead<float>& h, int64_t first, int64_t rows, double before,
                const Tiles& t) const;
  void gates(const DeltaHead<float>& h, int64_t first, int64_t rows, const Decays& d,
             const Tiles& t) const;
  void pack_values(const DeltaHead<float>& h, int64_t first, int64_t rows, const float* factors,
                   const Tiles& t, float* to) const;
  void settle(Carried& carried) const;
  void erase(const DeltaForward& head, int64_t first, int64_t rows, const Decays& d,
             const float* state, const Tiles& t, DeltaAhead& ahead) const;
  void forward_head(const DeltaForward& head, int64_t first, int64_t rows, const Tiles& t,
                    Carried& carried, DeltaAhead& ahead) const;
  void backward_head(const DeltaBackward& head, int64_t first, int64_t rows, const Tiles& t,
                     const BackTiles& b, float* carry, DeltaAhead& ahead) const;
  void take_values(const DeltaBackward& head, int64_t first, int64_t rows, const Decays& d,
                   const Tiles& t, const BackTiles& b) const;
  void value_gradients(const DeltaBackward& head, int64_t first, int64_t rows, const Tiles& t,
                       const BackTiles& b, const Decays& d) const;
  void put_values(const DeltaBackward& head, int64_t first, int64_t rows, const Tiles& t,
                  const BackTiles& b) const;
  void score_gradients(const Tiles& t, const BackTiles& b, const Decays& d) const;
  void state_gradients(const Tiles& t, const BackTiles& b, const Decays& d, const float* carry,
                       DeltaAhead& ahead) const;
  void put_gates(const DeltaBackward& head, int64_t first, int64_t rows, const Tiles& t,
                 const BackTiles& b, double state_dot) const;
  void begin_keys(const DeltaHead<float>& h, int64_t first, int64_t rows, Tiles& t,
                  BackTiles& b) const;
  void mix_keys(const Tiles& t, const BackTiles& b) const;
  void finish_keys(const DeltaBackward& head, int64_t first, int64_t rows, const Tiles& t,
                   const BackTiles& b) const;

  // Products, by the number of blocks in question (less one). [m, n, k] with w = 16 (blocks).
  SmallGemm score_[kMaxBlocks];       // [16, w, kp] = rows of q times keys^T
  SmallGemm read_;                    // [16, vp, kp] = rows times state
  SmallGemm mix_values_[kMaxBlocks];  // [16, vp, w] += scores times values
  SmallGemm write_[kMaxBlocks];       // [16, vp, w] += rows of keys^T times values
  SmallGemm d_score_[kMaxBlocks];     // [16, w, vp] = rows of values times values^T
  SmallGemm unread_[kMaxBlocks];      // [16, w, vp] = rows of the state times values^T
  SmallGemm unread_add_[kMaxBlocks];  // the same, added
  SmallGemm mix_keys_[kMaxBlocks];    // [kp, 16, w] += keys^T times score gradients
};

}  // namespace braid
