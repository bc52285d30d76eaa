#pragma once
// State files kept in memory, as numbers: f32, bf16, u8 and small i32 come back as they were.

#include <bit>
#include <map>
#include <string>
#include <vector>

#include "braid/state/layer_state.h"

namespace braid::testing {

class MemoryFile final : public StateWriter, public StateReader {
 public:
  void tensor(std::string_view name, const Tensor& value) override {
    std::vector<float> numbers;
    for (int64_t i = 0; i < value.count(); ++i) {
      numbers.push_back(value.dtype() == DType::kBF16 ? widened(value.data<uint16_t>()[i])
                        : value.dtype() == DType::kI32
                            ? static_cast<float>(value.data<int32_t>()[i])
                        : value.dtype() == DType::kU8 ? static_cast<float>(value.data<uint8_t>()[i])
                                                      : value.data()[i]);
    }
    BRAID_CHECK(tensors.emplace(name, std::move(numbers)).second);
  }
  void integer(std::string_view name, int64_t value) override {
    BRAID_CHECK(integers.emplace(name, value).second);
  }
  Tensor tensor(std::string_view name, Shape shape, DType dtype) override {
    const std::vector<float>& values = tensors.at(std::string(name));
    for (int i = 0; i < shape.rank(); ++i) {
      if (shape[i] >= 0) continue;
      int64_t others = 1;
      for (int j = 0; j < shape.rank(); ++j) others *= j == i ? 1 : shape[j];
      shape[i] = static_cast<int64_t>(values.size()) / others;
    }
    if (dtype == DType::kF32) return Tensor::from(ctx, shape, values);
    Tensor t = Tensor::empty(ctx, shape, dtype);
    BRAID_CHECK(t.count() == static_cast<int64_t>(values.size()));
    for (int64_t i = 0; i < t.count(); ++i) {
      const float v = values[static_cast<size_t>(i)];
      if (dtype == DType::kI32) t.data<int32_t>()[i] = static_cast<int32_t>(v);
      if (dtype == DType::kU8) t.data<uint8_t>()[i] = static_cast<uint8_t>(v);
      if (dtype == DType::kBF16)
        t.data<uint16_t>()[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(v) >> 16);
    }
    return t;
  }
  int64_t integer(std::string_view name) override { return integers.at(std::string(name)); }
  bool operator==(const MemoryFile& o) const {
    return tensors == o.tensors && integers == o.integers;
  }

  Context ctx;
  std::map<std::string, std::vector<float>> tensors;
  std::map<std::string, int64_t> integers;

 private:
  static float widened(uint16_t x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); }
};

}  // namespace braid::testing
