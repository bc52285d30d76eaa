#include "braid/importers/tensor_source.h"

namespace braid {

int64_t SourceTensor::count() const {
  int64_t n = 1;
  for (const int64_t s : shape) n *= s;
  return n;
}

const SourceTensor* TensorSource::find(std::string_view name) const {
  // Sources keep their tensors sorted by name.
  const std::vector<SourceTensor>& all = tensors();
  size_t low = 0, high = all.size();
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (all[middle].name < name) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < all.size() && all[low].name == name ? &all[low] : nullptr;
}

}  // namespace braid
