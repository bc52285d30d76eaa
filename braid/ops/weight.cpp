#include "braid/ops/weight.h"

#include <cstring>
#include <vector>

#include "braid/base/format.h"
#include "braid/core/parallel.h"
#include "braid/kernels/gemm/gemm.h"

namespace braid {
namespace {

constexpr int64_t kRowGrain = 16;

struct NamedType {
  WeightType type;
  const char* name;
};

constexpr NamedType kNames[] = {{WeightType::kF32, "f32"},
                                {WeightType::kBF16, "bf16"},
                                {WeightType::kQ8, "q8"},
                                {WeightType::kQ4, "q4"},
                                {WeightType::kQ4Min, "q4min"}};

}  // namespace

const char* weight_type_name(WeightType type) {
  for (const NamedType& n : kNames) {
    if (n.type == type) return n.name;
  }
  return "?";
}

std::optional<WeightType> weight_type_named(std::string_view name) {
  for (const NamedType& n : kNames) {
    if (n.name == name) return n.type;
  }
  return std::nullopt;
}

int64_t weight_bytes(WeightType type, const Shape& shape) {
  BRAID_CHECK(shape.rank() == 2 || shape.rank() == 3);
  BRAID_CHECK(shape[-1] % weight_block(type) == 0);
  return (shape.rank() == 3 ? shape[0] : 1) * weight_bytes(type, shape[-2], shape[-1]);
}

Weight::Weight(WeightType type, Shape shape, Tensor bytes)
    : type_(type), shape_(shape), bytes_(std::move(bytes)) {
  BRAID_CHECK(bytes_.dtype() == DType::kU8 && bytes_.contiguous());
  BRAID_CHECK(bytes_.count() == weight_bytes(type_, shape_));
}

WeightView Weight::matrix(int64_t index) const {
  return {type_, bytes_.data<std::byte>() + index * weight_bytes(type_, rows(), cols()), rows(),
          cols()};
}

std::shared_ptr<const Weight> pack_weight(const Context& ctx, WeightType type, const Shape& shape,
                                          RowSource source) {
  Tensor bytes = Tensor::empty(ctx, {weight_bytes(type, shape)}, DType::kU8);
  const int64_t cols = shape[-1], rows = shape.count() / cols;
  if (is_quantised(type)) throw Error(ErrorKind::kInternal, "q8 and q4 are not packed yet");
  parallel_for(ctx, rows, kRowGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(cols));
    for (int64_t i = begin; i < end; ++i) {
      if (type == WeightType::kF32) {
        source(i, bytes.data<float>() + i * cols);
      } else {
        source(i, row.data());
        narrow_to_bf16(row.data(), cols,
                       reinterpret_cast<uint16_t*>(bytes.data<std::byte>()) + i * cols);
      }
    }
  });
  return std::make_shared<Weight>(type, shape, std::move(bytes));
}

void weight_row(const Weight& weight, int64_t row, float* out) {
  const WeightView m = weight.matrix(row / weight.rows());
  const int64_t i = row % weight.rows();
  switch (m.type) {
    case WeightType::kF32:
      std::memcpy(out, m.data + i * m.cols * 4, static_cast<size_t>(m.cols) * 4);
      return;
    case WeightType::kBF16:
      widen_bf16(reinterpret_cast<const uint16_t*>(m.data) + i * m.cols, m.cols, out);
      return;
    default:
      throw Error(ErrorKind::kInternal, "q8 and q4 are not read yet");
  }
}

}  // namespace braid
