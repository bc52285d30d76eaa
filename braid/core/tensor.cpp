#include "braid/core/tensor.h"

#include <algorithm>
#include <cstring>

#include "braid/base/error.h"
#include "braid/base/format.h"

namespace braid {

Shape::Shape(std::initializer_list<int64_t> sizes)
    : Shape(std::span(sizes.begin(), sizes.size())) {}

Shape::Shape(std::span<const int64_t> sizes) : rank_(static_cast<int>(sizes.size())) {
  BRAID_CHECK(rank_ <= kMaxRank);
  std::copy(sizes.begin(), sizes.end(), sizes_);
}

int64_t Shape::count() const {
  // What a process can address on the machines there are, so that bytes and their sums fit too.
  constexpr int64_t kMost = int64_t{1} << 47;
  int64_t n = 1;
  for (int i = 0; i < rank_; ++i) {
    if (__builtin_mul_overflow(n, sizes_[i], &n) || n > kMost)
      throw Error(ErrorKind::kUsage, format("a tensor of {} is larger than any memory", str()));
  }
  return n;
}

bool Shape::operator==(const Shape& o) const {
  return rank_ == o.rank_ && std::equal(sizes_, sizes_ + rank_, o.sizes_);
}

std::string Shape::str() const {
  std::string s = "[";
  for (int i = 0; i < rank_; ++i) s += format("{}{}", i > 0 ? ", " : "", sizes_[i]);
  return s + "]";
}

Tensor Tensor::wrap(std::shared_ptr<Storage> storage, size_t offset_bytes, Shape shape,
                    DType dtype) {
  Tensor t;
  t.storage_ = std::move(storage);
  t.shape_ = shape;
  t.dtype_ = dtype;
  BRAID_CHECK(offset_bytes % dtype_size(dtype) == 0);
  t.offset_ = static_cast<int64_t>(offset_bytes / dtype_size(dtype));
  int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    t.strides_[i] = stride;
    stride *= shape[i];
  }
  BRAID_CHECK(offset_bytes + t.bytes() <= t.storage_->bytes());
  return t;
}

Tensor Tensor::empty(const Context& ctx, Shape shape, DType dtype) {
  const size_t bytes = static_cast<size_t>(shape.count()) * dtype_size(dtype);
  return wrap(ctx.arena->allocate(bytes), 0, shape, dtype);
}

Tensor Tensor::zeros(const Context& ctx, Shape shape, DType dtype) {
  Tensor t = empty(ctx, shape, dtype);
  if (!ctx.dry()) std::memset(t.data<std::byte>(), 0, t.bytes());
  return t;
}

Tensor Tensor::full(const Context& ctx, Shape shape, float value) {
  Tensor t = empty(ctx, shape);
  if (!ctx.dry()) std::fill_n(t.data(), t.count(), value);
  return t;
}

Tensor Tensor::from(const Context& ctx, Shape shape, std::span<const float> values) {
  Tensor t = empty(ctx, shape);
  BRAID_CHECK(static_cast<int64_t>(values.size()) == t.count());
  if (!ctx.dry()) std::copy(values.begin(), values.end(), t.data());
  return t;
}

Tensor Tensor::reshape(Shape shape) const {
  BRAID_CHECK(contiguous_ && shape.count() == count());
  Tensor t = *this;
  t.slot_ = -1;
  t.shape_ = shape;
  int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    t.strides_[i] = stride;
    stride *= shape[i];
  }
  return t;
}

Tensor Tensor::regroup_inner(Shape shape) const {
  BRAID_CHECK(shape.rank() >= 1 && shape[0] == size(0) && shape.count() == count());
  Tensor t = *this;
  t.slot_ = -1;
  t.shape_ = shape;
  int64_t stride = 1;
  for (int i = shape.rank() - 1; i > 0; --i) {
    t.strides_[i] = stride;
    stride *= shape[i];
  }
  return t;
}

Tensor Tensor::narrow(int dim, int64_t begin, int64_t length) const {
  if (dim < 0) dim += rank();
  BRAID_CHECK(dim < rank() && begin >= 0 && length >= 0 && begin + length <= size(dim));
  Tensor t = *this;
  t.slot_ = -1;
  t.offset_ += begin * strides_[dim];
  t.shape_[dim] = length;
  int64_t stride = 1;
  t.contiguous_ = true;
  for (int i = rank() - 1; i >= 0; --i) {
    if (t.shape_[i] != 1 && t.strides_[i] != stride) t.contiguous_ = false;
    stride *= t.shape_[i];
  }
  return t;
}

Tensor Tensor::select(int dim, int64_t index) const {
  if (dim < 0) dim += rank();
  Tensor t = narrow(dim, index, 1);
  Shape s;
  {
    int64_t sizes[Shape::kMaxRank];
    int n = 0;
    for (int i = 0; i < rank(); ++i) {
      if (i == dim) continue;
      sizes[n] = t.shape_[i];
      t.strides_[n++] = t.strides_[i];
    }
    s = Shape(std::span<const int64_t>(sizes, n));
  }
  t.shape_ = s;
  return t;
}

}  // namespace braid
