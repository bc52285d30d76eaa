#include "braid/state/state_copy.h"

#include <cstring>

namespace braid {

void copy_values(const Tensor& from, const Tensor& into, bool dry) {
  BRAID_CHECK(from.contiguous() && into.contiguous() && from.shape() == into.shape());
  if (!dry) std::memcpy(into.data(), from.data(), into.bytes());
}

void zero_values(const Tensor& into, bool dry) {
  BRAID_CHECK(into.contiguous());
  if (!dry) std::memset(into.data(), 0, into.bytes());
}

std::string state_name(std::string_view prefix, std::string_view name) {
  return std::string(prefix) += name;
}

}  // namespace braid
