#include "braid/kernels/delta/delta_plan.h"

#include <algorithm>

#include "braid/base/error.h"
#include "braid/kernels/delta/delta_rows.h"

namespace braid {

DeltaPlan::DeltaPlan(int64_t key_dim, int64_t value_dim, DeltaErase erase, int64_t chunk)
    : key_dim_(key_dim),
      value_dim_(value_dim),
      kp_(blocks(key_dim) * kDeltaBlock),
      vp_(blocks(value_dim) * kDeltaBlock),
      chunk_(chunk == 0 ? 32 : chunk),
      erase_(erase) {
  BRAID_CHECK(chunk_ % kDeltaBlock == 0 && chunk_ >= kDeltaBlock &&
              chunk_ <= kMaxBlocks * kDeltaBlock);
}

DeltaPlan::Work DeltaPlan::work(int64_t steps) const {
  constexpr int64_t kSquare = kDeltaBlock * kDeltaBlock;
  Work w;
  for (int64_t first = 0; first < steps; first += chunk_) {
    const int64_t rows = std::min(chunk_, steps - first), n = blocks(rows);
    w.rows += static_cast<double>(rows);
    w.lower += static_cast<double>(n * (n + 1) / 2 * kSquare);
    w.diagonal += static_cast<double>(n * kSquare);
  }
  return w;
}

void DeltaPlan::pack_state(const float* state, float* tile) const {
  for (int64_t d = 0; d < key_dim_; ++d) {
    std::copy_n(state + d * value_dim_, value_dim_, tile + d * vp_);
    std::fill_n(tile + d * vp_ + value_dim_, vp_ - value_dim_, 0.0f);
  }
  std::fill_n(tile + key_dim_ * vp_, (kp_ - key_dim_) * vp_, 0.0f);
}

void DeltaPlan::unpack_state(const float* tile, float factor, float* state, bool stream) const {
  if (vp_ == value_dim_) {
    delta_copy_scaled(key_dim_ * value_dim_, factor, tile, state, stream);
    return;
  }
  for (int64_t d = 0; d < key_dim_; ++d)
    delta_copy_scaled(value_dim_, factor, tile + d * vp_, state + d * value_dim_, false);
}

void DeltaPlan::take_tokens(const DeltaHead<float>& h, DeltaRows<const float> from, int64_t first,
                            int64_t rows, int64_t padded, int64_t count, int64_t ld,
                            const float* factors, float* to) {
  const int64_t n = h.micro_steps;
  if (n == 1) {
    delta_take_rows(from, {}, first, rows, padded, count, ld, factors, to);
    return;
  }
  std::fill_n(to, padded * ld, 0.0f);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t end = first + i + 1;
    if (end % n == 0)
      delta_take_rows(from, {}, end / n - 1, 1, 1, count, ld, factors + i, to + i * ld);
  }
}

void DeltaPlan::give_tokens(const DeltaHead<float>& h, const float* from, int64_t first,
                            int64_t rows, int64_t count, int64_t ld, const float* factors,
                            DeltaRows<float> to) {
  const int64_t n = h.micro_steps;
  const bool stream = passes_caches(h);
  if (n == 1) {
    delta_give_rows(from, ld, rows, count, factors, to, first, stream);
    return;
  }
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t end = first + i + 1;
    if (end % n != 0) continue;
    delta_give_rows(from + i * ld, ld, 1, count, factors == nullptr ? nullptr : factors + i, to,
                    end / n - 1, stream);
  }
}

}  // namespace braid
