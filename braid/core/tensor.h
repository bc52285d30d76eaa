#pragma once
// Tensor: a cheap value handle on shared storage. Sizes and strides are in elements, row-major when
// contiguous.

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "braid/base/error.h"
#include "braid/core/arena.h"
#include "braid/core/context.h"
#include "braid/core/dtype.h"

namespace braid {

class Shape {
 public:
  static constexpr int kMaxRank = 6;
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes);
  explicit Shape(std::span<const int64_t> sizes);
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return sizes_[i < 0 ? rank_ + i : i]; }
  int64_t& operator[](int i) { return sizes_[i < 0 ? rank_ + i : i]; }
  int64_t count() const;  // 1 for rank 0
  bool operator==(const Shape& o) const;
  std::string str() const;  // "[2, 3]"

 private:
  int rank_ = 0;
  int64_t sizes_[kMaxRank] = {};
};

class Tensor {
 public:
  Tensor() = default;  // undefined
  // Fresh, uninitialised (NaN under test), contiguous.
  static Tensor empty(const Context& ctx, Shape shape, DType dtype = DType::kF32);
  static Tensor zeros(const Context& ctx, Shape shape, DType dtype = DType::kF32);
  static Tensor full(const Context& ctx, Shape shape, float value);
  static Tensor from(const Context& ctx, Shape shape, std::span<const float> values);
  // A contiguous view of memory that `storage` keeps alive, from byte `offset` on.
  static Tensor wrap(std::shared_ptr<Storage> storage, size_t offset_bytes, Shape shape,
                     DType dtype);

  bool defined() const { return storage_ != nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t size(int i) const { return shape_[i]; }
  int64_t stride(int i) const { return strides_[i < 0 ? shape_.rank() + i : i]; }
  int64_t count() const { return shape_.count(); }
  bool contiguous() const { return contiguous_; }
  size_t bytes() const { return static_cast<size_t>(count()) * dtype_size(dtype_); }

  template <typename T = float>
  T* data() const {
    return reinterpret_cast<T*>(storage_->data()) + offset_;
  }

  // Views without autograd (ops/view.h has the recorded ones).
  Tensor reshape(Shape shape) const;        // contiguous only
  Tensor regroup_inner(Shape shape) const;  // first dimension kept, possibly strided
  Tensor narrow(int dim, int64_t begin, int64_t length) const;  // a slice of one dimension
  Tensor select(int dim, int64_t index) const;  // narrow by one and drop the dimension

  // The tape's number for this value; -1 = no gradient is wanted (ops/tape.h).
  int slot() const { return slot_; }
  void set_slot(int slot) { slot_ = slot; }

 private:
  std::shared_ptr<Storage> storage_;
  Shape shape_;
  int64_t strides_[Shape::kMaxRank] = {};
  int64_t offset_ = 0;  // elements
  DType dtype_ = DType::kF32;
  bool contiguous_ = true;
  int slot_ = -1;
};

}  // namespace braid
