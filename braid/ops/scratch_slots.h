#pragma once
// Scratch for the ranges of one parallel_for: as many slots as ranges may run at once, from the
// arena, so that it is counted like any tensor. What a range computes must not depend on the slot
// it got.

#include <algorithm>
#include <limits>
#include <mutex>
#include <vector>

#include "braid/core/parallel.h"
#include "braid/core/tensor.h"

namespace braid {

class ScratchSlots {
 public:
  // `ranges` = ranges of the loop, `floats` = size of a slot.
  ScratchSlots(const Context& ctx, int64_t ranges, int64_t floats)
      : slots_(std::max<int64_t>(1, std::min<int64_t>(effective_threads(ctx), ranges))),
        memory_(Tensor::empty(ctx, {slots_, (floats + 15) / 16 * 16})) {
    for (int64_t i = 0; i < slots_; ++i) free_.push_back(i);
  }

  class Lease {
   public:
    explicit Lease(ScratchSlots& from) : from_(from), slot_(from.take()) {
#ifdef BRAID_CHECKS
      std::fill_n(data(), from.memory_.size(1),
                  std::numeric_limits<float>::quiet_NaN());  // as fresh tensors are
#endif
    }
    ~Lease() { from_.give(slot_); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    float* data() const { return from_.memory_.data() + slot_ * from_.memory_.size(1); }

   private:
    ScratchSlots& from_;
    int64_t slot_;
  };

 private:
  int64_t take() {
    const std::lock_guard lock(mutex_);
    BRAID_CHECK(!free_.empty());
    const int64_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  void give(int64_t slot) {
    const std::lock_guard lock(mutex_);
    free_.push_back(slot);
  }

  int64_t slots_;
  Tensor memory_;
  std::vector<int64_t> free_;
  std::mutex mutex_;
};

}  // namespace braid
