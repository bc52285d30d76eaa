#pragma once
// Where the tensors of a checkpoint come from, whatever the container and the number format: by
// name, as rows of f32, or as they lie in the mapped file.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace braid {

struct SourceTensor {
  std::string name;
  std::vector<int64_t> shape;  // of the values, row-major
  std::string stored;          // "BF16", "F32", "F8_E4M3 in blocks", "MXFP4", "Q4_K": for people
  // Set when rows lie one behind the other as plain numbers: "F32", "BF16" or "F16", else "".
  std::string plain;
  uint64_t bytes = 0;  // in the file, scales included
  // Rows are [out, in] although the family's tensor is [in, out] (gpt-oss in MXFP4).
  bool output_major = false;
  size_t id = 0;  // the source's own
  int64_t count() const;
};

std::string shape_text(const std::vector<int64_t>& shape);  // "[2, 3]"
// Sizes of one do not count: A_log is [H] here and [1, 1, H, 1] there.
std::vector<int64_t> squeezed(const std::vector<int64_t>& shape);

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual const std::string& path() const = 0;  // for messages
  virtual const std::vector<SourceTensor>& tensors() const = 0;
  const SourceTensor* find(std::string_view name) const;
  // `rows` rows of `columns` values, from row `first` on, as f32. Any columns that divide the
  // tensor for plain ones; for blocks the last dimension. Called from several threads.
  virtual void read(const SourceTensor& tensor, int64_t first, int64_t rows, int64_t columns,
                    float* out) const = 0;
  // One row of the last dimension as ggml's blocks of type `tensor.stored`; null where the file
  // holds it otherwise.
  virtual const std::byte* blocks(const SourceTensor& /*tensor*/, int64_t /*row*/) const {
    return nullptr;
  }
  // The bytes of a plain tensor in the mapped file.
  virtual std::span<const std::byte> raw(const SourceTensor& tensor) const = 0;
  // Its pages of the mapped file may leave this process; the next use pages them in again.
  virtual void release(const SourceTensor& /*tensor*/) const {}
  virtual std::shared_ptr<const void> owner(const SourceTensor& tensor) const = 0;
};

}  // namespace braid
