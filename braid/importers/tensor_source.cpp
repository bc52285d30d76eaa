#include "braid/importers/tensor_source.h"

#include <algorithm>
#include <iterator>

#include "braid/base/format.h"

namespace braid {

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += format("{}{}", i > 0 ? ", " : "", shape[i]);
  return out + "]";
}

std::vector<int64_t> squeezed(const std::vector<int64_t>& shape) {
  std::vector<int64_t> out;
  std::copy_if(shape.begin(), shape.end(), std::back_inserter(out),
               [](int64_t n) { return n != 1; });
  return out;
}

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
