#include "braid/stack/compress.h"

#include <algorithm>

namespace braid {
namespace {

struct Repeat {
  size_t begin = 0, period = 0, times = 0;
  size_t saved = 0;
};

// The repeat that folds the most items away; the shortest and earliest of equals.
Repeat best_repeat(const std::vector<int>& ids) {
  Repeat best;
  const size_t n = ids.size();
  for (size_t period = 1; period <= n / 2; ++period) {
    for (size_t begin = 0; begin + 2 * period <= n;) {
      size_t same = 0;
      while (begin + period + same < n && ids[begin + same] == ids[begin + period + same]) ++same;
      const size_t times = same / period + 1;
      const size_t saved = (times - 1) * period;
      if (times > 1 && saved > best.saved) best = {begin, period, times, saved};
      begin += same + 1;
    }
  }
  return best;
}

std::vector<StackItem> folded(std::vector<StackItem> items) {
  for (;;) {
    std::vector<int> ids;
    std::vector<const StackItem*> known;
    for (const StackItem& item : items) {
      const auto found =
          std::find_if(known.begin(), known.end(), [&](const StackItem* k) { return *k == item; });
      ids.push_back(static_cast<int>(found - known.begin()));
      if (found == known.end()) known.push_back(&item);
    }
    const Repeat r = best_repeat(ids);
    if (r.times < 2) return items;
    const auto begin = items.begin() + static_cast<std::ptrdiff_t>(r.begin);
    StackItem group;
    group.count = static_cast<int64_t>(r.times);
    group.items.assign(begin, begin + static_cast<std::ptrdiff_t>(r.period));
    group.items = folded(std::move(group.items));
    items.erase(begin + 1, begin + static_cast<std::ptrdiff_t>(r.period * r.times));
    items[r.begin] = std::move(group);
  }
}

}  // namespace

StackSpec compress(const std::vector<LayerSpec>& layers) {
  std::vector<StackItem> items;
  for (const LayerSpec& layer : layers) {
    StackItem leaf;
    leaf.layers.push_back(layer);
    items.push_back(std::move(leaf));
  }
  return canonical({folded(std::move(items))});
}

}  // namespace braid
