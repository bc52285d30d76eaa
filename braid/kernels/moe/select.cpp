#include "braid/kernels/moe/moe.h"

namespace braid {
namespace {

// Keeps the k largest values seen, largest first; an equal value that comes later ranks lower.
// Not-a-numbers rank where they fall, so that any input gives valid indices.
class Best {
 public:
  explicit Best(int64_t k) : k_(k) {}
  void offer(int32_t index, float value) {
    if (count_ == k_ && !(value > values_[k_ - 1])) return;
    int64_t at = count_ < k_ ? count_++ : k_ - 1;
    for (; at > 0 && value > values_[at - 1]; --at) {
      values_[at] = values_[at - 1];
      indices_[at] = indices_[at - 1];
    }
    values_[at] = value;
    indices_[at] = index;
  }
  int32_t index(int64_t i) const { return indices_[i]; }
  float value(int64_t i) const { return values_[i]; }

 private:
  int64_t k_;
  int64_t count_ = 0;
  float values_[kMaxExpertsPerToken];
  int32_t indices_[kMaxExpertsPerToken];
};

static_assert(kMaxExpertGroups <= kMaxExpertsPerToken);

}  // namespace

void select_experts(const Selection& s, const float* c, int32_t* chosen) {
  Best best(s.k);
  const int64_t size = s.experts / s.groups;
  if (s.groups == 1) {
    for (int64_t e = 0; e < s.experts; ++e) best.offer(static_cast<int32_t>(e), c[e]);
  } else {
    Best groups(s.topk_groups);
    for (int64_t g = 0; g < s.groups; ++g) {
      Best two(size < 2 ? 1 : 2);
      for (int64_t e = g * size; e < (g + 1) * size; ++e) two.offer(static_cast<int32_t>(e), c[e]);
      const float sum = size < 2 ? two.value(0) : two.value(0) + two.value(1);
      groups.offer(static_cast<int32_t>(g), sum);
    }
    bool kept[kMaxExpertGroups] = {};
    for (int64_t i = 0; i < s.topk_groups; ++i) kept[groups.index(i)] = true;
    // In the order of the experts, so that ties still go to the lowest index.
    for (int64_t e = 0; e < s.experts; ++e) {
      if (kept[e / size]) best.offer(static_cast<int32_t>(e), c[e]);
    }
  }
  for (int64_t i = 0; i < s.k; ++i) chosen[i] = best.index(i);
}

}  // namespace braid
