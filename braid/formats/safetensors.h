#pragma once
// The safetensors container (huggingface/safetensors): u64 little-endian header length N, N bytes
// of JSON
// {"name": {"dtype", "shape", "data_offsets"}, "__metadata__": {string: string}}, then the packed
// row-major data. Reading is strict: everything the header says is checked against the file before
// it is used.

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/file.h"
#include "braid/core/tensor.h"
#include "braid/formats/byte_source.h"

namespace braid {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;           // as in the file: "F32", "BF16", "I64", ...
  std::vector<int64_t> shape;  // empty = a scalar, one element
  uint64_t begin = 0;          // bytes from the start of the data
  uint64_t end = 0;
  int64_t count() const;
};

class SafetensorsFile {
 public:
  // Maps the file. Throws Error(kBadInput), naming the file, the tensor and both values, for a
  // header longer than the file or than 100 MB, JSON of another form, a name twice, an unknown
  // dtype, a size that is not what dtype and shape give, tensors that overlap, leave a hole or do
  // not end with the file.
  static SafetensorsFile open(const std::string& path);
  // The same over bytes in memory; `path` is for messages only.
  static SafetensorsFile parse(std::shared_ptr<const void> owner, std::span<const std::byte> bytes,
                               std::string path);

  const std::string& path() const { return path_; }
  const std::vector<SafetensorsEntry>& entries() const {
    return entries_;
  }                                                           // in the order of their data
  const SafetensorsEntry* find(std::string_view name) const;  // null when there is none
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // The metadata string of that key; throws when it is missing.
  const std::string& metadata(const std::string& key) const;

  // Read-only views of F32, BF16, I32, I64, U8 (and BOOL as u8) data, without a copy where the file
  // keeps them aligned. Writing to one faults. Throws for a missing name, another dtype, or more
  // than Shape::kMaxRank dimensions.
  Tensor tensor(std::string_view name) const;
  // A fresh f32 tensor of ctx with the values of F32, F64, F16, BF16, BOOL, or any integer type
  // (rounded to nearest).
  Tensor to_f32(const Context& ctx, std::string_view name) const;
  // Values of a BOOL, I8..I64, U8..U32 tensor; U64 too where they fit.
  std::vector<int64_t> to_i64(std::string_view name) const;
  std::span<const std::byte> bytes(const SafetensorsEntry& entry) const;
  // A tensor's bytes have been copied and need not stay resident; the system keeps them cached.
  void release(std::string_view name) const;
  // Keeps the bytes of this file alive: for views made from bytes().
  const std::shared_ptr<const void>& owner() const { return owner_; }

 private:
  const SafetensorsEntry& at(std::string_view name) const;
  [[noreturn]] void fail(const SafetensorsEntry& entry, const std::string& what) const;
  std::string path_;
  std::shared_ptr<const void> owner_;
  bool mapped_ = false;
  std::span<const std::byte> data_;
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, size_t, std::less<>> by_name_;
  std::map<std::string, std::string> metadata_;
};

// One tensor of a file to be written.
struct SafetensorsItem {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  unsigned bits = 0;  // of an element
  uint64_t bytes = 0;
};
// Throws InternalError for an unknown dtype or a shape that is no whole number of bytes.
SafetensorsItem make_safetensors_item(std::string name, std::string dtype,
                                      std::vector<int64_t> shape);
// The order of the reference: larger elements first, then by name.
bool safetensors_before(const SafetensorsItem& a, const SafetensorsItem& b);
// The file's beginning: length and padded JSON of the items in the order of their data.
std::string safetensors_header(const std::vector<SafetensorsItem>& items,
                               const std::map<std::string, std::string>& metadata);

// Collects tensors and writes them at once. Tensors are held by handle, not copied: do not change
// them before write().
class SafetensorsWriter {
 public:
  // A contiguous f32, bf16, i32, i64 or u8 tensor. A name given twice throws InternalError.
  void add(std::string name, Tensor value);
  void add_i64(std::string name, std::vector<int64_t> shape, std::vector<int64_t> values);
  void set_metadata(const std::string& key, std::string value) {
    metadata_[key] = std::move(value);
  }

  struct Written {
    uint64_t bytes = 0;
    uint64_t digest = 0;  // FileDigest of the whole file
  };
  // Atomic (AtomicFile). Data sorted by element size, largest first, then by name, as the reference
  // writes it; the header is padded with spaces so that the data begins at a multiple of 8.
  Written write(const std::string& path, const ByteProgress& progress = {}) const;
  std::string bytes() const;  // the same in memory

 private:
  struct Item {
    SafetensorsItem head;
    Tensor tensor;
    std::vector<int64_t> values;
    const void* data() const;
  };
  template <typename Sink>
  void emit(Sink&& sink) const;
  std::vector<Item> items_;
  std::set<std::string> names_;
  std::map<std::string, std::string> metadata_{{"format", "pt"}};
};

}  // namespace braid
