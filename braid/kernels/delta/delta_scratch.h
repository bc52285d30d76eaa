#pragma once
// What the chunked forms of the recurrence share in handling memory.

#include <cstdint>

#include "braid/kernels/delta/delta.h"

namespace braid {

// Cuts scratch into tiles on 64-byte boundaries; counts only, when the memory is null.
class DeltaCarver {
 public:
  explicit DeltaCarver(float* memory) : memory_(memory) {}
  float* floats(int64_t count) {
    float* p = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (count + 15) / 16 * 16;
    return p;
  }
  int64_t used() const { return used_; }

 private:
  float* memory_;
  int64_t used_ = 0;
};

// Asks for rows of memory before they are needed, a few at a time between products: a head's rows
// lie far apart, where the machine does not guess what comes next.
class DeltaAhead {
 public:
  void add(DeltaRows<const float> rows, int64_t first, int64_t end, int64_t count) {
    if (rows && used_ < kMost && first < end) of_[used_++] = {rows, first, end, count};
  }
  // Those of micro-steps [first, end) of a head.
  void add_operands(const DeltaHead<float>& h, int64_t first, int64_t end) {
    const int64_t n = h.micro_steps;
    add(h.q, first / n, end / n, h.key_dim);
    if (h.decay == DeltaDecay::kVector) add(h.g, first / n, end / n, h.key_dim);
    add(h.k, first, end, h.key_dim);
    add(h.b, first, end, h.key_dim);
    add(h.p, first, end, h.key_dim);
    add(h.v, first, end, h.value_dim);
    add(h.w, first, end, h.value_dim);
  }
  void next() {
    constexpr int64_t kRows = 3, kLine = 16;
    for (int i = 0; i < used_; ++i) {
      Range& r = of_[i];
      for (int64_t n = 0; n < kRows && r.next < r.end; ++n, ++r.next) {
        for (int64_t c = 0; c < r.count; c += kLine) __builtin_prefetch(r.rows[r.next] + c, 0, 3);
      }
    }
  }

 private:
  static constexpr int kMost = 32;
  struct Range {
    DeltaRows<const float> rows;
    int64_t next, end, count;
  };
  Range of_[kMost];
  int used_ = 0;
};

// Rows as far apart as those of other heads evict each other from the caches: better not to bring
// in what is only written, once the array is too large to be found there anyway.
inline bool passes_caches(const DeltaHead<float>& h) {
  constexpr int64_t kLarge = int64_t{1} << 18;
  return h.tokens * h.v.stride > kLarge;
}

}  // namespace braid
