#pragma once
// State files kept in memory.

#include <map>
#include <string>
#include <vector>

#include "braid/state/layer_state.h"

namespace braid::testing {

class MemoryFile final : public StateWriter, public StateReader {
 public:
  void tensor(std::string_view name, const Tensor& value) override {
    BRAID_CHECK(
        tensors.emplace(name, std::vector<float>(value.data(), value.data() + value.count()))
            .second);
  }
  void integer(std::string_view name, int64_t value) override {
    BRAID_CHECK(integers.emplace(name, value).second);
  }
  Tensor tensor(std::string_view name, Shape shape, DType) override {
    const std::vector<float>& values = tensors.at(std::string(name));
    for (int i = 0; i < shape.rank(); ++i) {
      if (shape[i] >= 0) continue;
      int64_t others = 1;
      for (int j = 0; j < shape.rank(); ++j) others *= j == i ? 1 : shape[j];
      shape[i] = static_cast<int64_t>(values.size()) / others;
    }
    return Tensor::from(ctx, shape, values);
  }
  int64_t integer(std::string_view name) override { return integers.at(std::string(name)); }
  bool operator==(const MemoryFile& o) const {
    return tensors == o.tensors && integers == o.integers;
  }

  Context ctx;
  std::map<std::string, std::vector<float>> tensors;
  std::map<std::string, int64_t> integers;
};

}  // namespace braid::testing
