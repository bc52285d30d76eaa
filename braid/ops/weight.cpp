#include "braid/ops/weight.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "braid/base/format.h"
#include "braid/core/parallel.h"
#include "braid/kernels/gemm/gemm.h"
#include "braid/kernels/quant/pack.h"

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

// body(row over all matrices, scratch of one row, lane, panel) for every row of a quantised weight.
void fill_panels(const Context& ctx, WeightType type, const Shape& shape, const Tensor& bytes,
                 FunctionRef<void(int64_t, float*, int, std::byte*)> body) {
  const int64_t rows = shape[-2], cols = shape[-1];
  const int64_t panels = (rows + kPanelRows - 1) / kPanelRows, size = panel_bytes(type, cols);
  parallel_for(ctx, bytes.count() / size, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(cols));
    for (int64_t p = begin; p < end; ++p) {
      std::byte* panel = bytes.data<std::byte>() + p * size;
      const int64_t first = p % panels * kPanelRows, used = std::min(kPanelRows, rows - first);
      if (used < kPanelRows) std::memset(panel, 0, static_cast<size_t>(size));
      for (int64_t i = 0; i < used; ++i) {
        body(p / panels * rows + first + i, row.data(), static_cast<int>(i), panel);
      }
    }
  });
}

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
  if (is_quantised(type)) {
    fill_panels(ctx, type, shape, bytes, [&](int64_t row, float* x, int lane, std::byte* panel) {
      source(row, x);
      pack_row(type, x, cols, lane, panel);
    });
    return std::make_shared<Weight>(type, shape, std::move(bytes));
  }
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

std::shared_ptr<const Weight> repack_weight(const Context& ctx, WeightType type, const Shape& shape,
                                            BlockSource source) {
  BRAID_CHECK(is_quantised(type));
  Tensor bytes = Tensor::empty(ctx, {weight_bytes(type, shape)}, DType::kU8);
  fill_panels(ctx, type, shape, bytes, [&](int64_t row, float*, int lane, std::byte* panel) {
    repack_row(type, source(row), shape[-1], lane, panel);
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
      unpack_row(m.type, m.data + i / kPanelRows * panel_bytes(m.type, m.cols), m.cols,
                 static_cast<int>(i % kPanelRows), out);
  }
}

}  // namespace braid
