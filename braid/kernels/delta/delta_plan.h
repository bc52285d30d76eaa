#pragma once
// What the chunked forms of the recurrence have in common: sizes, and the ways between the caller's
// rows and states and padded tiles (delta_tile.h).

#include <cstdint>

#include "braid/kernels/delta/delta.h"
#include "braid/kernels/delta/delta_rows.h"
#include "braid/kernels/delta/delta_scratch.h"
#include "braid/kernels/delta/delta_tile.h"

namespace braid {

class DeltaPlan {
 public:
  static constexpr int64_t kMostHeads = 4;  // of a call
  static constexpr int64_t kMaxBlocks = 4;

  int64_t chunk() const { return chunk_; }
  int64_t chunks(int64_t steps) const { return (steps + chunk_ - 1) / chunk_; }

 protected:
  // chunk: micro-steps per chunk, a multiple of 16 up to 64; 0 = the fastest measured.
  DeltaPlan(int64_t key_dim, int64_t value_dim, DeltaErase erase, int64_t chunk);

  static constexpr int64_t blocks(int64_t rows) { return (rows + kDeltaBlock - 1) / kDeltaBlock; }
  bool erases() const { return erase_ != DeltaErase::kNone; }
  // The state is read before a token's decay.
  bool reads_before() const { return erase_ == DeltaErase::kKey || erase_ == DeltaErase::kPair; }
  int64_t size() const { return kp_ * vp_; }

  // What products over the chunks of `steps` micro-steps are counted by.
  struct Work {
    double rows = 0;
    double lower = 0;     // entries of rows x rows in blocks on and below the diagonal
    double diagonal = 0;  // entries in the blocks on it
  };
  Work work(int64_t steps) const;

  // [K, V] to [kp, vp] and back, times factor; stream: past the caches.
  void pack_state(const float* state, float* tile) const;
  void unpack_state(const float* tile, float factor, float* state, bool stream) const;

  // Micro-steps [first, first + rows) of rows that tokens have, one each, at the micro-step that
  // ends the token. Taken times factors to [padded, ld], zero elsewhere; given times factors, which
  // may be null.
  static void take_tokens(const DeltaHead<float>& h, DeltaRows<const float> from, int64_t first,
                          int64_t rows, int64_t padded, int64_t count, int64_t ld,
                          const float* factors, float* to);
  static void give_tokens(const DeltaHead<float>& h, const float* from, int64_t first, int64_t rows,
                          int64_t count, int64_t ld, const float* factors, DeltaRows<float> to);

  int64_t key_dim_, value_dim_, kp_, vp_, chunk_;  // kp, vp: K, V rounded up to whole blocks
  DeltaErase erase_;
};

// Rows carry decays down to e^-40, and their inverses up to 2e17, which leaves f32 twenty-one
// powers of ten.
inline constexpr double kDeltaMildest = -40;

}  // namespace braid
