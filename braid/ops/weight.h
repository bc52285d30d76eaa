#pragma once
// Weights that are read, never trained: matrices kept in fewer bits than f32.

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "braid/base/function_ref.h"
#include "braid/core/tensor.h"
#include "braid/kernels/quant/weight_type.h"

namespace braid {

// One matrix [rows, cols] as products read it; borrowed.
struct WeightView {
  WeightType type = WeightType::kF32;
  const std::byte* data = nullptr;
  int64_t rows = 0, cols = 0;
};

// One matrix [R, C], or E of them [E, R, C] (experts), of one type in one piece of memory.
class Weight {
 public:
  // `bytes`, u8 and contiguous, are exactly those of the type and shape; throws InternalError
  // otherwise (weight_from_file checks first).
  Weight(WeightType type, Shape shape, Tensor bytes);

  WeightType type() const { return type_; }
  const Shape& shape() const { return shape_; }
  int64_t matrices() const { return shape_.rank() == 3 ? shape_[0] : 1; }
  int64_t rows() const { return shape_[-2]; }  // of one matrix
  int64_t cols() const { return shape_[-1]; }
  const Tensor& bytes() const { return bytes_; }
  WeightView matrix(int64_t index = 0) const;

 private:
  WeightType type_;
  Shape shape_;
  Tensor bytes_;
};

const char* weight_type_name(WeightType type);  // "f32", "bf16", "q8", "q4", "q4min"
std::optional<WeightType> weight_type_named(std::string_view name);

// Bytes of a whole weight of that shape, [R, C] or [E, R, C].
int64_t weight_bytes(WeightType type, const Shape& shape);

// Writes the `cols` values of one row, counted over all matrices; called from several threads.
using RowSource = FunctionRef<void(int64_t row, float* out)>;

// A fresh weight in memory of ctx's arena, every row asked for once. On a dry context only its size
// exists and nothing is asked for.
std::shared_ptr<const Weight> pack_weight(const Context& ctx, WeightType type, const Shape& shape,
                                          RowSource source);

// The bytes of one row as GGUF stores it: Q8_0 for q8, Q4_0 for q4, Q4_K for q4min. They are
// rearranged without loss.
using BlockSource = FunctionRef<const std::byte*(int64_t row)>;
std::shared_ptr<const Weight> repack_weight(const Context& ctx, WeightType type, const Shape& shape,
                                            BlockSource source);

// The values of one row, counted over all matrices.
void weight_row(const Weight& weight, int64_t row, float* out);

}  // namespace braid
